/* Looks at a plugin file before the dynamic loader does: ownership bits, the ELF header, and that no segment lies
 * beyond the end of the file (the loader would die of SIGBUS on a file that was cut short). */
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "host/plugin.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#error "add the ELF machine number of this processor"
#endif

enum { FILE_BYTES_MAX = 1 << 30 };

static mg_status check_writers(mg_context *context, const char *path) {
  struct stat about;
  if (stat(path, &about) != 0) return mg_fail(context, MG_PLUGIN, "%s: cannot be read: %s", path, strerror(errno));
  if (!S_ISREG(about.st_mode)) return mg_fail(context, MG_PLUGIN, "%s: is not a regular file", path);
  if (about.st_mode & S_IWOTH)
    return mg_fail(context, MG_PLUGIN, "%s: any user may change this file, so it is not loaded; chmod o-w %s", path,
                   path);
  char folder[PATH_MAX];
  const char *slash = strrchr(path, '/');
  const size_t length = slash ? (size_t)(slash - path) : 0;
  if (!slash || length >= sizeof folder) return mg_fail(context, MG_BUG, "%s: an absolute path was expected", path);
  memcpy(folder, path, length);
  folder[length] = '\0';
  if (stat(length ? folder : "/", &about) == 0 && (about.st_mode & S_IWOTH) && !(about.st_mode & S_ISVTX))
    return mg_fail(context, MG_PLUGIN,
                   "%s: any user may replace files in its folder, so it is not loaded; chmod o-w %s", path, folder);
  return MG_OK;
}

/* True if [offset, offset + bytes) lies inside a file of `size` bytes. */
static bool inside(uint64_t offset, uint64_t bytes, uint64_t size) {
  return offset <= size && bytes <= size - offset;
}

static mg_status cut_short(mg_context *context, const char *path, size_t size) {
  return mg_fail(context, MG_PLUGIN, "%s: is cut short at %zu bytes, its header promises more; build or copy it again",
                 path, size);
}

static mg_status check_segments(mg_context *context, const char *path, const char *data, size_t size) {
  Elf64_Ehdr header;
  memcpy(&header, data, sizeof header);
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return cut_short(context, path, size);
  if (!inside(header.e_phoff, (uint64_t)header.e_phnum * sizeof(Elf64_Phdr), size))
    return cut_short(context, path, size);
  /* The section headers stand last, so they tell of a cut behind the segments, in the debug information. */
  if (!inside(header.e_shoff, (uint64_t)header.e_shnum * header.e_shentsize, size))
    return cut_short(context, path, size);
  for (size_t i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    memcpy(&segment, data + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type == PT_LOAD && !inside(segment.p_offset, segment.p_filesz, size))
      return cut_short(context, path, size);
  }
  return MG_OK;
}

static mg_status check_elf(mg_context *context, const char *path, const char *data, size_t size) {
  Elf64_Ehdr header;
  if (size < SELFMAG || memcmp(data, ELFMAG, SELFMAG) != 0)
    return mg_fail(context, MG_PLUGIN, "%s: is not a shared object (it does not begin as an ELF file does)", path);
  if (size < sizeof header) return cut_short(context, path, size);
  memcpy(&header, data, sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != MACHINE)
    return mg_fail(context, MG_PLUGIN, "%s: was built for another kind of processor; build it on this machine", path);
  if (header.e_type != ET_DYN)
    return mg_fail(context, MG_PLUGIN, "%s: is no shared object; link it with -shared", path);
  return check_segments(context, path, data, size);
}

mg_status mg__plugin_file_check(mg_context *context, const char *path) {
  MG_TRY(check_writers(context, path));
  char *data;
  size_t size;
  if (mg_file_read(context, path, FILE_BYTES_MAX, &data, &size) != MG_OK)
    return mg_fail(context, MG_PLUGIN, "%s", mg_context_message(context));
  const mg_status status = check_elf(context, path, data, size);
  mg_free(context, data, size + 1);
  return status;
}
