// What the Go binding has no door to. Functions that can fail return NULL, or a
// text to be freed with free.
#ifndef FORGEPIPE_ORT_SHIM_H
#define FORGEPIPE_ORT_SHIM_H

#include <stdint.h>
#include <stdlib.h>

#include "onnxruntime_c_api.h"

// A port of a model. name and dims are to be freed; axes is an array of rank
// texts, each to be freed, and so is the array.
typedef struct {
	char *name;
	int is_tensor;
	int type;
	size_t rank;
	int64_t *dims;
	char **axes;
} fp_port;

// A tensor that lies in memory of the caller or, as an output, of the runtime.
typedef struct {
	void *data;
	size_t bytes;
	const int64_t *dims;
	size_t rank;
	int type;
} fp_tensor;

// fp_load opens the library and asks it for its interface. *version and *file,
// which is where the library was found, stay for as long as it is loaded.
char *fp_load(const char *path, const char **version, const char **file);
// fp_unload closes a library that is not going to be used.
void fp_unload(void);
// fp_providers gives an array of *n texts for fp_release_providers.
char *fp_providers(char ***names, int *n);
void fp_release_providers(char **names, int n);
// fp_log_to has a session's messages go to forgepipeOrtLog with this handle; 0 drops them.
char *fp_log_to(OrtSessionOptions *o, uintptr_t handle);
// fp_cancel_load ends the opening of a session with these options, from another thread.
char *fp_cancel_load(OrtSessionOptions *o);
char *fp_run_config(OrtRunOptions *o, const char *key, const char *value);
char *fp_port_counts(const OrtSession *s, size_t *inputs, size_t *outputs);
char *fp_get_port(const OrtSession *s, int output, size_t i, fp_port *port);
void fp_free_port(fp_port *port);
// fp_allocator gives the session's allocator on the CPU or, with cuda, on that
// GPU; fp_release_allocator takes it back.
char *fp_allocator(const OrtSession *s, int cuda, int device, OrtAllocator **a);
void fp_release_allocator(OrtAllocator *a);
// fp_stats reads InUse, TotalAllocated, MaxInUse and Limit; -1 is not told.
char *fp_stats(const OrtAllocator *a, int64_t stats[4]);
// fp_others gives the operators, one a line, that are not on the provider.
char *fp_others(const OrtSession *s, const char *provider, char **operators);
// fp_run runs and gives n_out values for fp_output and fp_release_value.
char *fp_run(OrtSession *s, const OrtRunOptions *o, const char *const *in_names, const OrtValue *const *in, size_t n_in,
             const char *const *out_names, OrtValue **out, size_t n_out);
// fp_input makes a value of the caller's memory, for fp_release_value.
char *fp_input(const fp_tensor *t, OrtValue **v);
// fp_output describes a value; dims is to be freed, data is the value's.
char *fp_output(OrtValue *v, fp_tensor *t);
void fp_release_value(OrtValue *v);

#endif
