/* Facts about the build (from CMake), the processor (hwloc and /proc/cpuinfo) and the system. */
#include "measure/provenance.h"

#include <gnu/libc-version.h>
#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "moegauge_build.h"
#include "moegauge_commit.h"

enum { LINE_BYTES = 8192, ISA_BYTES = 256 };

const char *mg_provenance_commit(void) {
  if (!*MG_BUILD_COMMIT) return "unknown commit";
  return MG_BUILD_DIRTY ? MG_BUILD_COMMIT " with changes" : MG_BUILD_COMMIT;
}

static void set_text(json_t *object, const char *key, const char *text) {
  if (text && *text) json_object_set_new(object, key, json_string(text));
}

static void set_integer(json_t *object, const char *key, int64_t value) {
  if (value > 0) json_object_set_new(object, key, json_integer(value));
}

/* The value of the first line "KEY<tabs>: value" in a file of such lines; false if there is none. */
static bool find_line(const char *path, const char *key, char *value, size_t bytes) {
  FILE *file = fopen(path, "r");
  char *line = NULL;
  size_t capacity = 0;
  bool found = false;
  while (file && !found && getline(&line, &capacity, file) > 0) {
    const char *colon = strchr(line, ':');
    if (!colon || strncmp(line, key, strlen(key)) != 0 || strchr("\t :", line[strlen(key)]) == NULL) continue;
    colon += 1 + strspn(colon + 1, " \t");
    snprintf(value, bytes, "%.*s", (int)strcspn(colon, "\n"), colon);
    found = true;
  }
  free(line);
  if (file) fclose(file);
  return found;
}

static bool has_word(const char *text, const char *word) {
  const size_t length = strlen(word);
  for (const char *at = text; (at = strstr(at, word)); at += length)
    if ((at == text || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
  return false;
}

/* The instruction sets that our kernels could use, of those the processor has. */
static void describe_isa(char isa[ISA_BYTES]) {
  static const char *const known[] = {"sse4_2",   "avx",      "avx2",        "fma",         "avx512f",
                                      "avx512bw", "avx512vl", "avx512_bf16", "avx512_vnni", "avx_vnni",
                                      "amx_bf16", "amx_int8", "asimd",       "sve",         "bf16"};
  char flags[LINE_BYTES];
  isa[0] = '\0';
  if (!find_line("/proc/cpuinfo", "flags", flags, sizeof flags) &&
      !find_line("/proc/cpuinfo", "Features", flags, sizeof flags))
    return;
  size_t used = 0;
  for (size_t i = 0; i < MG_COUNT(known); i++)
    if (has_word(flags, known[i]) && used < ISA_BYTES)
      used += (size_t)snprintf(isa + used, ISA_BYTES - used, "%s%s", used ? " " : "", known[i]);
}

static int64_t usable_threads(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

static json_t *describe_processor(void) {
  json_t *processor = json_object();
  char model[LINE_BYTES] = "", isa[ISA_BYTES];
  find_line("/proc/cpuinfo", "model name", model, sizeof model);
  set_text(processor, "model", model);
  describe_isa(isa);
  set_text(processor, "isa", isa);
  hwloc_topology_t topology;
  if (hwloc_topology_init(&topology) == 0) {
    if (hwloc_topology_load(topology) == 0) {
      set_integer(processor, "cores", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE));
      set_integer(processor, "threads", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU));
    }
    hwloc_topology_destroy(topology);
  }
  set_integer(processor, "usable", usable_threads());
  return processor;
}

static void describe_system(json_t *facts) {
  struct utsname system;
  char name[LINE_BYTES] = "";
  FILE *file = fopen("/etc/os-release", "r");
  char line[256];
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "PRETTY_NAME=\"%255[^\"]", name) == 1) break;
  if (file) fclose(file);
  set_text(facts, "system", name);
  if (uname(&system) == 0) set_text(facts, "kernel", system.release);
  set_integer(facts, "memory_bytes", (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
  file = fopen("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "r");
  if (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = '\0';
    set_text(facts, "governor", line);
  }
  if (file) fclose(file);
  set_text(facts, "omp_num_threads", getenv("OMP_NUM_THREADS"));
}

static json_t *describe_libraries(void) {
  static const struct { const char *name, *version; } built[] = {MG_BUILD_LIBRARIES};
  json_t *libraries = json_object();
  set_text(libraries, "libc", gnu_get_libc_version());
  for (size_t i = 0; i < MG_COUNT(built); i++) set_text(libraries, built[i].name, built[i].version);
  return libraries;
}

mg_status mg_provenance(mg_context *context, json_t **out) {
  json_t *facts = json_object();
  *out = facts;
  if (!facts) return mg_fail(context, MG_MEMORY, "out of host memory while collecting provenance");
  set_text(facts, "version", MG_VERSION);
  set_text(facts, "commit", MG_BUILD_COMMIT);
  if (*MG_BUILD_COMMIT) json_object_set_new(facts, "dirty", json_boolean(MG_BUILD_DIRTY));
  set_text(facts, "compiler", MG_BUILD_COMPILER);
  set_text(facts, "flags", MG_BUILD_FLAGS);
  set_text(facts, "build_type", MG_BUILD_TYPE);
  set_text(facts, "sanitizers", MG_BUILD_SANITIZERS);
  describe_system(facts);
  json_object_set_new(facts, "processor", describe_processor());
  json_object_set_new(facts, "libraries", describe_libraries());
  return MG_OK;
}
