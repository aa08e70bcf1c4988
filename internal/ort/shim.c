//go:build linux && cgo && !noort

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

#include "shim.h"

// From Go; the signature is that of its header, which has no const.
extern void forgepipeOrtLog(uintptr_t handle, int severity, char *category, char *message);

static void *library;
static const OrtApi *api;
static OrtMemoryInfo *host; // of inputs in the caller's memory

static char *status_text(OrtStatus *status) {
	if (status == NULL) return NULL;
	char *text = strdup(api->GetErrorMessage(status));
	api->ReleaseStatus(status);
	// A failure must never look like success.
	if (text == NULL) abort();
	return text;
}

#define TRY(call)                              \
	do {                                       \
		char *text_ = status_text(call);       \
		if (text_ != NULL) return text_;       \
	} while (0)

static char *text(const char *a, const char *b) {
	char *t = NULL;
	if (asprintf(&t, "%s%s", a, b) < 0) abort();
	return t;
}

void fp_unload(void) {
	if (host != NULL) api->ReleaseMemoryInfo(host);
	if (library != NULL) dlclose(library);
	host = NULL;
	api = NULL;
	library = NULL;
}

char *fp_load(const char *path, const char **version, const char **file) {
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL) return text(dlerror(), "");
	const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
	if (base == NULL) {
		fp_unload();
		return text("it is not ONNX Runtime: it has no function OrtGetApiBase", "");
	}
	Dl_info where;
	*file = dladdr((void *)base, &where) != 0 ? where.dli_fname : path;
	*version = base()->GetVersionString();
	// Asked for an interface that it lacks, the library would write to the terminal.
	int major = 0, minor = 0;
	if (sscanf(*version, "%d.%d", &major, &minor) != 2 || major != 1 || minor < ORT_API_VERSION ||
	    (api = base()->GetApi(ORT_API_VERSION)) == NULL) {
		char *t = NULL;
		if (asprintf(&t, "it is ONNX Runtime %s, and 1.%d or newer is needed", *version, ORT_API_VERSION) < 0) abort();
		fp_unload();
		return t;
	}
	char *failed = status_text(api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &host));
	if (failed != NULL) fp_unload();
	return failed;
}

char *fp_providers(char ***names, int *n) {
	TRY(api->GetAvailableProviders(names, n));
	return NULL;
}

void fp_release_providers(char **names, int n) {
	api->ReleaseStatus(api->ReleaseAvailableProviders(names, n));
}

static void ORT_API_CALL log_message(void *param, OrtLoggingLevel severity, const char *category, const char *id,
                                     const char *location, const char *message) {
	(void)id;
	(void)location;
	if (param != NULL) forgepipeOrtLog((uintptr_t)param, severity, (char *)category, (char *)message);
}

char *fp_log_to(OrtSessionOptions *o, uintptr_t handle) {
	return status_text(api->SetUserLoggingFunction(o, log_message, (void *)handle));
}

char *fp_cancel_load(OrtSessionOptions *o) {
	return status_text(api->SessionOptionsSetLoadCancellationFlag(o, true));
}

char *fp_run_config(OrtRunOptions *o, const char *key, const char *value) {
	return status_text(api->AddRunConfigEntry(o, key, value));
}

char *fp_port_counts(const OrtSession *s, size_t *inputs, size_t *outputs) {
	TRY(api->SessionGetInputCount(s, inputs));
	TRY(api->SessionGetOutputCount(s, outputs));
	return NULL;
}

static char *port_shape(const OrtTensorTypeAndShapeInfo *info, fp_port *port) {
	enum ONNXTensorElementDataType type;
	TRY(api->GetTensorElementType(info, &type));
	port->is_tensor = 1;
	port->type = type;
	TRY(api->GetDimensionsCount(info, &port->rank));
	if (port->rank == 0) return NULL;
	port->dims = calloc(port->rank, sizeof *port->dims);
	port->axes = calloc(port->rank, sizeof *port->axes);
	const char **axes = calloc(port->rank, sizeof *axes);
	if (port->dims == NULL || port->axes == NULL || axes == NULL) abort();
	char *failed = status_text(api->GetDimensions(info, port->dims, port->rank));
	if (failed == NULL) failed = status_text(api->GetSymbolicDimensions(info, axes, port->rank));
	for (size_t i = 0; failed == NULL && i < port->rank; i++) port->axes[i] = text(axes[i], "");
	free(axes);
	return failed;
}

char *fp_get_port(const OrtSession *s, int output, size_t i, fp_port *port) {
	memset(port, 0, sizeof *port);
	OrtAllocator *heap;
	TRY(api->GetAllocatorWithDefaultOptions(&heap));
	char *name;
	if (output) TRY(api->SessionGetOutputName(s, i, heap, &name));
	else TRY(api->SessionGetInputName(s, i, heap, &name));
	port->name = text(name, "");
	heap->Free(heap, name);
	OrtTypeInfo *type;
	if (output) TRY(api->SessionGetOutputTypeInfo(s, i, &type));
	else TRY(api->SessionGetInputTypeInfo(s, i, &type));
	const OrtTensorTypeAndShapeInfo *info = NULL; // stays NULL for what is no tensor
	char *failed = status_text(api->CastTypeInfoToTensorInfo(type, &info));
	if (failed == NULL && info != NULL) failed = port_shape(info, port);
	api->ReleaseTypeInfo(type);
	return failed;
}

void fp_free_port(fp_port *port) {
	for (size_t i = 0; port->axes != NULL && i < port->rank; i++) free(port->axes[i]);
	free(port->axes);
	free(port->dims);
	free(port->name);
}

char *fp_allocator(const OrtSession *s, int cuda, int device, OrtAllocator **a) {
	OrtMemoryInfo *where;
	TRY(api->CreateMemoryInfo(cuda ? "Cuda" : "Cpu", OrtArenaAllocator, cuda ? device : 0, OrtMemTypeDefault, &where));
	char *failed = status_text(api->CreateAllocator(s, where, a));
	api->ReleaseMemoryInfo(where);
	return failed;
}

void fp_release_allocator(OrtAllocator *a) {
	api->ReleaseAllocator(a);
}

char *fp_stats(const OrtAllocator *a, int64_t stats[4]) {
	static const char *const names[] = {"InUse", "TotalAllocated", "MaxInUse", "Limit"};
	OrtKeyValuePairs *pairs;
	TRY(api->AllocatorGetStats(a, &pairs));
	for (int i = 0; i < 4; i++) {
		const char *value = api->GetKeyValue(pairs, names[i]);
		stats[i] = value == NULL ? -1 : strtoll(value, NULL, 10);
	}
	api->ReleaseKeyValuePairs(pairs);
	return NULL;
}

char *fp_others(const OrtSession *s, const char *provider, char **operators) {
	const OrtEpAssignedSubgraph *const *parts;
	size_t n_parts, length;
	TRY(api->Session_GetEpGraphAssignmentInfo(s, &parts, &n_parts));
	FILE *f = open_memstream(operators, &length);
	if (f == NULL) abort();
	char *failed = NULL;
	for (size_t i = 0; failed == NULL && i < n_parts; i++) {
		const char *name;
		const OrtEpAssignedNode *const *nodes;
		size_t n_nodes;
		failed = status_text(api->EpAssignedSubgraph_GetEpName(parts[i], &name));
		if (failed != NULL || strcmp(name, provider) == 0) continue;
		failed = status_text(api->EpAssignedSubgraph_GetNodes(parts[i], &nodes, &n_nodes));
		for (size_t j = 0; failed == NULL && j < n_nodes; j++) {
			failed = status_text(api->EpAssignedNode_GetOperatorType(nodes[j], &name));
			if (failed == NULL) fprintf(f, "%s\n", name);
		}
	}
	fclose(f);
	if (failed != NULL) free(*operators);
	return failed;
}

char *fp_input(const fp_tensor *t, OrtValue **v) {
	return status_text(
	    api->CreateTensorWithDataAsOrtValue(host, t->data, t->bytes, t->dims, t->rank, t->type, v));
}

char *fp_run(OrtSession *s, const OrtRunOptions *o, const char *const *in_names, const OrtValue *const *in, size_t n_in,
             const char *const *out_names, OrtValue **out, size_t n_out) {
	return status_text(api->Run(s, o, in_names, in, n_in, out_names, n_out, out));
}

char *fp_output(OrtValue *v, fp_tensor *t) {
	memset(t, 0, sizeof *t);
	int is_tensor = 0;
	TRY(api->IsTensor(v, &is_tensor));
	if (!is_tensor) return text("it is no tensor", "");
	OrtTensorTypeAndShapeInfo *info;
	TRY(api->GetTensorTypeAndShape(v, &info));
	enum ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
	char *failed = status_text(api->GetTensorElementType(info, &type));
	if (failed == NULL) failed = status_text(api->GetDimensionsCount(info, &t->rank));
	int64_t *dims = calloc(t->rank + 1, sizeof *dims);
	if (dims == NULL) abort();
	if (failed == NULL) failed = status_text(api->GetDimensions(info, dims, t->rank));
	api->ReleaseTensorTypeAndShapeInfo(info);
	t->type = type;
	t->dims = dims;
	if (failed == NULL) failed = status_text(api->GetTensorSizeInBytes(v, &t->bytes));
	if (failed == NULL) failed = status_text(api->GetTensorMutableData(v, &t->data));
	if (failed != NULL) {
		free(dims);
		t->dims = NULL;
	}
	return failed;
}

void fp_release_value(OrtValue *v) {
	if (v != NULL) api->ReleaseValue(v);
}
