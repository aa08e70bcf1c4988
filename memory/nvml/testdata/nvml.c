/*
 * A stand-in for libnvidia-ml.so.1, of which the tests build variants with -D.
 * It has the functions that the package calls and no GPU: every figure is made
 * up, and no product is called "Made-up GPU". The layouts are those of
 * NVIDIA's NVML API reference.
 *
 *   OLD              only unversioned functions, and neither processes, MIG
 *                    mode, how busy nor the second version of the memory
 *                    information
 *   LISTS=1, 2       process lists of that version only (otherwise 2 and 3)
 *   NO_INIT          none of the functions that start it
 *   INIT=n           start fails with n
 *   VERSION="x"      the driver's version (otherwise "0.0-fake")
 *   COUNT=n          so many GPUs (otherwise 2)
 *   LOST=i           GPU i is lost
 *   NO_HANDLE=n      the second GPU gives no handle but the error n
 *   MEMORY=n         the memory information fails with n
 *   MEMORY2=n        so does its second version only
 *   ZERO             it succeeds, and all of it is zero
 *   TOO_MUCH         it succeeds, with more used than there is
 *   CHANGES          1 MiB more is used at each call
 *   OTHERS           this process is not listed
 *   UNTOLD           what processes have is not available
 *   SHUFFLED         the lists are laid out as in driver 535.54
 *   DEADLY           asking for the lists ends the process, with code 98
 *   BUSY=n           the GPUs are busy for n % of the time (otherwise 25)
 *   NO_BUSY          the function that tells it is not there
 *   BUSY_FAILS=n     it fails with n
 *   MIG              the first GPU is in MIG mode
 *   HANG_INIT, HANG_MEMORY, HANG_SHUTDOWN
 *                    hangs until there is the file $FAKE_NVML_GATE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };

#define MIB (1024ull * 1024)
#define NOT_AVAILABLE (~0ull)

#ifndef COUNT
#define COUNT 2
#endif
#ifndef LOST
#define LOST -1
#endif
#ifndef BUSY
#define BUSY 25
#endif
#ifndef VERSION
#define VERSION "0.0-fake"
#endif

typedef struct { int index; } device;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned int gpu, memory; } utilization;
typedef struct { unsigned int pid; unsigned long long used; } process_v1;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process_v2;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; unsigned long long protected; } process_shuffled;

static device devices[8] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};
static int started;

/* Whoever calls before the start, or after one that failed, is caught. */
static void must_be_started(const char *who) {
	if (!started) {
		fprintf(stderr, "%s was called, but NVML is not started\n", who);
		_exit(99);
	}
}

__attribute__((unused)) static void hang(void) {
	while (access(getenv("FAKE_NVML_GATE"), F_OK) != 0)
		usleep(1000);
}

#ifndef NO_INIT
static int start(void) {
#ifdef HANG_INIT
	hang();
#endif
#ifdef INIT
	return INIT;
#else
	started = 1;
	return SUCCESS;
#endif
}

int nvmlInit(void) { return start(); }
#ifndef OLD
int nvmlInit_v2(void) { return start(); }
#endif
#endif

int nvmlShutdown(void) {
	must_be_started("nvmlShutdown");
#ifdef HANG_SHUTDOWN
	hang();
#endif
	started = 0;
	return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *to, unsigned int size) {
	must_be_started("nvmlSystemGetDriverVersion");
	snprintf(to, size, "%s", VERSION);
	return SUCCESS;
}

static int count(unsigned int *n) {
	must_be_started("nvmlDeviceGetCount");
	*n = COUNT;
	return SUCCESS;
}

static int handle(unsigned int i, device **d) {
	must_be_started("nvmlDeviceGetHandleByIndex");
	if (i >= COUNT)
		return INVALID_ARGUMENT;
#ifdef NO_HANDLE
	if (i == 1)
		return NO_HANDLE;
#endif
	*d = &devices[i];
	return SUCCESS;
}

int nvmlDeviceGetCount(unsigned int *n) { return count(n); }
int nvmlDeviceGetHandleByIndex(unsigned int i, device **d) { return handle(i, d); }
#ifndef OLD
int nvmlDeviceGetCount_v2(unsigned int *n) { return count(n); }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, device **d) { return handle(i, d); }
#endif

int nvmlDeviceGetName(device *d, char *to, unsigned int size) {
	must_be_started("nvmlDeviceGetName");
	snprintf(to, size, "Made-up GPU %d", d->index);
	return SUCCESS;
}

/* 8000 MiB, of which 500 are reserved and 1500 used. */
static int figures(device *d, memory_v2 *m) {
	static int calls;
	must_be_started("nvmlDeviceGetMemoryInfo");
#ifdef HANG_MEMORY
	hang();
#endif
#ifdef MEMORY
	memset(m, 0x55, sizeof *m);
	return MEMORY;
#endif
	if (d->index == LOST)
		return GPU_IS_LOST;
	m->total = 8000 * MIB;
	m->reserved = 500 * MIB;
	m->used = 1500 * MIB;
#ifdef CHANGES
	m->used += calls++ * MIB;
#endif
	(void)calls;
	m->free = m->total - m->reserved - m->used;
#ifdef ZERO
	m->total = m->reserved = m->used = m->free = 0;
#endif
#ifdef TOO_MUCH
	m->used = m->total + 1;
#endif
	return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device *d, memory_v1 *m) {
	memory_v2 two;
	int ret = figures(d, &two);
	m->total = two.total;
	m->free = two.free;
	m->used = two.used + two.reserved;
	return ret;
}

#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *m) {
	if (m->version != (sizeof *m | 2u << 24))
		return VERSION_MISMATCH;
#ifdef MEMORY2
	return MEMORY2;
#endif
	return figures(d, m);
}

int nvmlDeviceGetMigMode(device *d, unsigned int *current, unsigned int *pending) {
	must_be_started("nvmlDeviceGetMigMode");
#ifdef MIG
	*current = *pending = d->index == 0;
	return SUCCESS;
#else
	return 3; /* not supported */
#endif
}

#if !defined(OLD) && !defined(NO_BUSY)
int nvmlDeviceGetUtilizationRates(device *d, utilization *u) {
	must_be_started("nvmlDeviceGetUtilizationRates");
	(void)d;
	u->gpu = BUSY;
	u->memory = 99;
#ifdef MIG
	return 3; /* not supported */
#elif defined(BUSY_FAILS)
	return BUSY_FAILS;
#else
	return SUCCESS;
#endif
}
#endif

/*
 * Process 1 computes and has 1000 MiB, this one has 300 MiB and both computes
 * and draws, and process 2 draws and has 7 MiB.
 */
static int list(int draws, process_v2 *p) {
	int n = 0;
	must_be_started("nvmlDeviceGetComputeRunningProcesses");
#ifdef DEADLY
	_exit(98);
#endif
	p[n++] = draws ? (process_v2){2, 7 * MIB, -1, -1} : (process_v2){1, 1000 * MIB, -1, -1};
#ifndef OTHERS
	p[n++] = (process_v2){getpid(), 300 * MIB, -1, -1};
#endif
#ifdef MIG
	p[n++] = (process_v2){getpid(), 40 * MIB, 1, 0};
#endif
#ifdef UNTOLD
	for (int i = 0; i < n; i++)
		p[i].used = NOT_AVAILABLE;
#endif
	return n;
}

#define LIST(name, type, draws)                                           \
	int name(device *d, unsigned int *n, type *to) {                  \
		process_v2 all[4];                                        \
		int have = list(draws, all);                              \
		unsigned int room = *n;                                   \
		(void)d;                                                  \
		*n = have;                                                \
		if (have > (int)room)                                     \
			return INSUFFICIENT_SIZE;                         \
		for (int i = 0; i < have; i++)                            \
			COPY(&to[i], &all[i]);                            \
		return SUCCESS;                                           \
	}

#if LISTS == 1
#define COPY(to, from) ((to)->pid = (from)->pid, (to)->used = (from)->used)
LIST(nvmlDeviceGetComputeRunningProcesses, process_v1, 0)
LIST(nvmlDeviceGetGraphicsRunningProcesses, process_v1, 1)
#else
#define COPY(to, from) memcpy(to, from, sizeof(process_v2))
LIST(nvmlDeviceGetComputeRunningProcesses_v2, process_v2, 0)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, process_v2, 1)
#if LISTS != 2
#ifdef SHUFFLED
#undef COPY
#define COPY(to, from) ((to)->protected = 0, memcpy(to, from, sizeof(process_v2)))
LIST(nvmlDeviceGetComputeRunningProcesses_v3, process_shuffled, 0)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, process_shuffled, 1)
#else
LIST(nvmlDeviceGetComputeRunningProcesses_v3, process_v2, 0)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, process_v2, 1)
#endif
#endif
#endif
#endif
