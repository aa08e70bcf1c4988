// Stands for the CUDA driver of a card with 1 GiB, as far as the neighbour calls it.
#include <stddef.h>
#include <stdint.h>

static size_t room = (size_t)1 << 30, sizes[4096];
static uint64_t blocks;

int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int number) { return *device = number; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
	*context = &room;
	return device;
}
int cuCtxSetCurrent(void *context) { return context == &room ? 0 : 201; }
int cuMemAlloc_v2(uint64_t *at, size_t bytes) {
	if (bytes > room)
		return 2;
	room -= bytes;
	sizes[blocks] = bytes;
	*at = blocks++;
	return 0;
}
int cuMemFree_v2(uint64_t at) {
	room += sizes[at];
	return 0;
}
