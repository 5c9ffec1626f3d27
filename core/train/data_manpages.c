/* Stage "collect" for `manpages`: real text in several languages from Debian packages, fetched without root.
 *
 * Packages are downloaded once by `apt-get download` into CACHE/packages and stay there, so later runs need no network.
 * Each is read in memory. The report names every package file with its
 * hash; the dataset's own checksum is over the text. */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"
#include "base/vector.h"
#include "train/data_stage.h"

typedef enum format { ROFF, C, PERL } format;

/* Where a domain's documents come from. */
typedef struct source {
  const char *domain, *package;
  const char *folder;  /* only files whose path in the package begins so */
  const char *suffix;  /* and ends so */
  const char *without; /* and does not hold this; NULL = no such rule */
  format format;
} source;

static const source sources[] = {{"english", "manpages", "usr/share/man/man", ".gz", NULL, ROFF},
                                 {"english", "manpages-dev", "usr/share/man/man", ".gz", NULL, ROFF},
                                 {"german", "manpages-de", "usr/share/man/de/", ".gz", NULL, ROFF},
                                 {"french", "manpages-fr", "usr/share/man/fr/", ".gz", NULL, ROFF},
                                 {"french", "manpages-fr-dev", "usr/share/man/fr/", ".gz", NULL, ROFF},
                                 {"japanese", "manpages-ja", "usr/share/man/ja/", ".gz", NULL, ROFF},
                                 {"c", "linux-libc-dev", "usr/include/", ".h", NULL, C},
                                 {"c", "libc6-dev", "usr/include/", ".h", NULL, C},
                                 {"perl", "perl-modules-5.36", "usr/share/perl/", ".pm", "/unicore/", PERL}};

typedef struct manpages_options {
  char domains[MG_OPTION_STRING_MAX];
} manpages_options;

static const mg_option options_table[] = {MG_OPTION_STRING(manpages_options, domains,
                                                           "english,german,french,japanese,c,perl",
                                                           "names of domains, separated by commas"),
                                          MG_OPTION_END};

enum { FOLDER_BYTES = PATH_MAX + 64, PATTERN_BYTES = FOLDER_BYTES + PATH_MAX };
static const size_t archive_bytes_most = (size_t)1 << 28;

/* True if the list "a,b,c" holds the name. */
static bool listed(const char *list, const char *name) {
  const size_t bytes = strlen(name);
  for (const char *at = list; at; at = strchr(at, ',')) {
    at += *at == ',';
    if (strncmp(at, name, bytes) == 0 && (at[bytes] == ',' || at[bytes] == '\0')) return true;
  }
  return false;
}

static mg_status check_domains(mg_context *context, const char *list) {
  const char *names[MG_COUNT(sources)];
  for (size_t i = 0; i < MG_COUNT(sources); i++) names[i] = sources[i].domain;
  for (const char *at = list; at; at = strchr(at, ',')) {
    at += *at == ',';
    char name[MG_OPTION_STRING_MAX];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
    bool known = false;
    for (size_t i = 0; i < MG_COUNT(sources); i++) known = known || strcmp(names[i], name) == 0;
    if (known) continue;
    const char *nearest = mg_nearest_name(name, names, MG_COUNT(names));
    return mg_fail(context, MG_USAGE,
                   "collect: manpages has no domain '%s'%s%s%s; it has english, german, french, japanese, c, perl",
                   name, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
  }
  return MG_OK;
}

/* ---- packages ---- */

static mg_status packages_folder(mg__pipeline *pipeline, char folder[PATH_MAX]) {
  char name[PATH_MAX];
  if ((size_t)snprintf(name, sizeof name, "%s/packages", pipeline->cache) >= sizeof name)
    return mg_fail(pipeline->context, MG_WRITE, "%s: the path is too long", pipeline->cache);
  MG_TRY(mg_folder_make(pipeline->context, name));
  if (!realpath(name, folder)) return mg_fail(pipeline->context, MG_WRITE, "%s: %s", name, strerror(errno));
  return MG_OK;
}

/* The newest name of a package's file in `folder`; false if there is none. */
static bool find_package(const char *folder, const char *package, char path[PATH_MAX]) {
  char pattern[PATTERN_BYTES];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%s/%s_*.deb", folder, package);
  if (glob(pattern, 0, NULL, &found) != 0) return false;
  snprintf(path, PATH_MAX, "%s", found.gl_pathv[found.gl_pathc - 1]);
  globfree(&found);
  return true;
}

/* Moves every package of `from` to `to`, each in one step. */
static void move_packages(const char *from, const char *to) {
  char pattern[PATTERN_BYTES], target[PATTERN_BYTES];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%s/*.deb", from);
  if (glob(pattern, 0, NULL, &found) != 0) return;
  for (size_t i = 0; i < found.gl_pathc; i++) {
    snprintf(target, sizeof target, "%s/%s", to, strrchr(found.gl_pathv[i], '/') + 1);
    (void)!rename(found.gl_pathv[i], target);
  }
  globfree(&found);
}

enum { ARGUMENTS_MAX = 24 };

/* Runs apt-get with its state below `folder` when `own_lists`, so that neither root nor the system's lists are needed.
 */
static mg_status run_apt(mg__pipeline *pipeline, const char *folder, bool own_lists, const char *const *words) {
  char state[PATTERN_BYTES], archive[PATTERN_BYTES], log[PATTERN_BYTES];
  const char *arguments[ARGUMENTS_MAX] = {"apt-get", "-q", "-o", "APT::Sandbox::User=root"};
  size_t count = 4;
  if (own_lists) {
    snprintf(state, sizeof state, "Dir::State=%s/state", folder);
    snprintf(archive, sizeof archive, "Dir::Cache=%s/archive", folder);
    const char *more[] = {"-o", state, "-o", archive, "-o", "Dir::State::status=/var/lib/dpkg/status"};
    for (size_t i = 0; i < MG_COUNT(more); i++) arguments[count++] = more[i];
  }
  while (*words && count + 1 < ARGUMENTS_MAX) arguments[count++] = *words++;
  snprintf(log, sizeof log, "%s/apt.log", folder);
  int code;
  MG_TRY(mg__program_run(pipeline->context, arguments, folder, "/dev/null", log, &code));
  return code == 0 ? MG_OK : mg_fail(pipeline->context, MG_FILE, "apt-get ended with code %d", code);
}

static mg_status download(mg__pipeline *pipeline, const char *folder, const char *const *words) {
  if (run_apt(pipeline, folder, false, words) == MG_OK) return MG_OK;
  char path[PATTERN_BYTES];
  const char *const below[] = {"state/lists/partial", "archive/archives/partial"};
  for (size_t i = 0; i < MG_COUNT(below); i++) {
    snprintf(path, sizeof path, "%s/%s", folder, below[i]);
    MG_TRY(mg_folder_make(pipeline->context, path));
  }
  MG_TRY(run_apt(pipeline, folder, true, (const char *const[]){"update", NULL}));
  return run_apt(pipeline, folder, true, words);
}

/* The first line of apt's log that names an error, for the message: later ones follow from it. */
static void first_error(const char *folder, char line[256]) {
  char path[PATTERN_BYTES], read[256];
  snprintf(path, sizeof path, "%s/apt.log", folder);
  snprintf(line, 256, "no network?");
  FILE *log = fopen(path, "r");
  if (!log) return;
  while (fgets(read, sizeof read, log)) {
    if (strncmp(read, "E: ", 3) != 0) continue;
    read[strcspn(read, "\n")] = '\0';
    snprintf(line, 256, "%s", read + 3);
    break;
  }
  fclose(log);
}

/* Downloads what is missing into a folder of its own first, so that no half package is ever seen. */
static mg_status fetch(mg__pipeline *pipeline, const char *folder, const char *const *missing, size_t count) {
  char temporary[FOLDER_BYTES], reason[256];
  snprintf(temporary, sizeof temporary, "%s/fetch.tmp.%ld", folder, (long)getpid());
  MG_TRY(mg_folder_make(pipeline->context, temporary));
  const char *words[MG_COUNT(sources) + 2] = {"download"};
  memcpy(words + 1, missing, count * sizeof *missing);
  mg_log_line(pipeline->context, MG_LOG_INFO, "manpages: downloading %zu Debian packages (about 20 MB)", count);
  const mg_status status = download(pipeline, temporary, words);
  move_packages(temporary, folder);
  first_error(temporary, reason);
  mg__folder_remove(temporary);
  if (status == MG_OK) return MG_OK;
  char why[512];
  snprintf(why, sizeof why, "%s", mg_context_message(pipeline->context));
  return mg_fail(pipeline->context, MG_FILE,
                 "corpus manpages: %zu Debian packages (%s, ...) could not be downloaded (%s: %s) and are not in %s; "
                 "connect to the network once, or use the corpus 'synthetic' or a folder of your own",
                 count, missing[0], why, reason, folder);
}

static size_t list_missing(const char *folder, const char *domains, const char *missing[MG_COUNT(sources)]) {
  char path[PATH_MAX];
  size_t count = 0;
  for (size_t i = 0; i < MG_COUNT(sources); i++)
    if (listed(domains, sources[i].domain) && !find_package(folder, sources[i].package, path))
      missing[count++] = sources[i].package;
  return count;
}

/* Makes sure that every package is there, fetching those that are not; one process at a time. Where all are there, the
 * folder need not be writable, as in a sandbox. */
static mg_status ensure_packages(mg__pipeline *pipeline, const char *domains, char folder[PATH_MAX]) {
  const char *missing[MG_COUNT(sources)];
  char name[FOLDER_BYTES];
  int lock;
  MG_TRY(packages_folder(pipeline, folder));
  size_t count = list_missing(folder, domains, missing);
  if (count == 0) return MG_OK;
  snprintf(name, sizeof name, "%s/fetch", folder);
  if (mg__lock_take(pipeline->context, name, &lock) != MG_OK)
    return mg_fail(pipeline->context, MG_FILE,
                   "corpus manpages: %zu Debian packages (%s, ...) are not in %s, and cannot be downloaded to there "
                   "from here; run "
                   "an experiment on this corpus without a sandbox once, or `apt-get download` them in that folder",
                   count, missing[0], folder);
  count = list_missing(folder, domains, missing); /* another process may have fetched them meanwhile */
  const mg_status status = count ? fetch(pipeline, folder, missing, count) : MG_OK;
  mg__lock_release(lock);
  return status;
}

static mg_status identity(mg__pipeline *pipeline, const void *options, char text[MG_HASH_TEXT_BYTES]) {
  const manpages_options *chosen = options;
  char folder[PATH_MAX], path[PATH_MAX];
  char hashes[MG_COUNT(sources)][MG_HASH_TEXT_BYTES] = {{0}};
  MG_TRY(check_domains(pipeline->context, chosen->domains));
  MG_TRY(ensure_packages(pipeline, chosen->domains, folder));
  for (size_t i = 0; i < MG_COUNT(sources); i++)
    if (listed(chosen->domains, sources[i].domain) && find_package(folder, sources[i].package, path))
      MG_TRY(mg_hash_file(pipeline->context, path, hashes[i]));
  mg_hash_bytes(hashes, sizeof hashes, text);
  return MG_OK;
}

/* ---- documents ---- */

typedef struct unpacking {
  mg__pipeline *pipeline;
  const source *from;
  int32_t domain;
  mg__text page, text; /* one document before and after conversion */
} unpacking;

/* Leaves out the manual inside a Perl module ("=head1" to "=cut"), which is English. */
static mg_status without_pod(mg_context *context, const char *source_text, size_t bytes, mg__text *out) {
  const char *end = source_text + bytes;
  bool manual = false;
  for (const char *at = source_text; at < end;) {
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    const char *next = newline ? newline + 1 : end;
    const bool directive = *at == '=' && next - at > 1 && ((at[1] | 32) >= 'a' && (at[1] | 32) <= 'z');
    const bool cut = directive && next - at >= 4 && memcmp(at, "=cut", 4) == 0;
    if (directive) manual = true;
    if (!manual) MG_TRY(mg__text_append(context, out, at, (size_t)(next - at)));
    if (cut) manual = false;
    if (!manual && next - at >= 7 && memcmp(at, "__END__", 7) == 0) break;
    at = next;
  }
  return MG_OK;
}

/* Where a page's last section begins that only thanks its translators or names its project, as nearly all pages of a
 * language do in the same words; the page's end if it has none. */
static size_t without_credits(const char *text, size_t bytes) {
  static const char *const headings[] = {
      "\n\303\234BERSETZUNG\n", "\nTRADUCTION\n", "\nCOLOPHON\n",
      "\n\xE3\x81\x93\xE3\x81\xAE\xE6\x96\x87\xE6\x9B\xB8\xE3\x81\xAB\xE3\x81\xA4\xE3\x81\x84\xE3\x81\xA6\n"};
  for (size_t i = 0; i < MG_COUNT(headings); i++) {
    const char *found = memmem(text, bytes, headings[i], strlen(headings[i]));
    if (found && (size_t)(found - text) + 1 < bytes) bytes = (size_t)(found - text) + 1;
  }
  return bytes;
}

static bool holds(const char *text, size_t bytes, const char *word) {
  return memmem(text, bytes, word, strlen(word)) != NULL;
}

/* Bytes of the comments at a C file's start that state its licence, which hundreds of headers share. */
static size_t licence_bytes(const char *text, size_t bytes) {
  size_t start = 0;
  for (;;) {
    size_t at = start;
    while (at < bytes && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t')) at++;
    if (bytes - at < 4 || text[at] != '/' || text[at + 1] != '*') return start;
    const char *close = memmem(text + at + 2, bytes - at - 2, "*/", 2);
    const size_t end = close ? (size_t)(close - text) + 2 : 0;
    if (!close || !(holds(text + at, end - at, "SPDX") || holds(text + at, end - at, "opyright") ||
                    holds(text + at, end - at, "icense")))
      return start;
    start = end;
  }
}

static mg_status convert(unpacking *in, const char *raw, size_t bytes) {
  mg_context *context = in->pipeline->context;
  const char *skipped = NULL;
  in->text.bytes = 0;
  switch (in->from->format) {
  case ROFF:
    MG_TRY(mg__roff_to_text(context, raw, bytes, &in->text, &skipped));
    if (in->text.bytes > 0) in->text.bytes = without_credits(in->text.data, in->text.bytes);
    break;
  case PERL: MG_TRY(without_pod(context, raw, bytes, &in->text)); break;
  case C: {
    const size_t licence = licence_bytes(raw, bytes);
    MG_TRY(mg__text_append(context, &in->text, raw + licence, bytes - licence));
    break;
  }
  }
  if (skipped) return mg__drop_count(in->pipeline, skipped, bytes);
  if (in->text.bytes == 0) return mg__drop_count(in->pipeline, "empty", bytes);
  return mg__document_add(in->pipeline, in->text.data, in->text.bytes, in->domain);
}

static mg_status add_member(void *user, const mg__member *member) {
  unpacking *in = user;
  const source *from = in->from;
  const size_t length = strlen(member->path), suffix = strlen(from->suffix);
  const bool wanted = strncmp(member->path, from->folder, strlen(from->folder)) == 0 && length > suffix &&
                      strcmp(member->path + length - suffix, from->suffix) == 0 &&
                      !(from->without && strstr(member->path, from->without));
  if (!wanted) return MG_OK;
  if (member->link) return mg__drop_count(in->pipeline, "symbolic_link", 0);
  if (from->format != ROFF) return convert(in, member->data, member->bytes);
  in->page.bytes = 0;
  MG_TRY(mg__gzip_unpack(in->pipeline->context, member->path, member->data, member->bytes, &in->page));
  return convert(in, in->page.data, in->page.bytes);
}

/* Notes a package's file name (its version is in it) and hash in the report. */
static mg_status note_package(mg__pipeline *pipeline, const char *path) {
  char hash[MG_HASH_TEXT_BYTES];
  MG_TRY(mg_hash_file(pipeline->context, path, hash));
  json_t *packages = json_object_get(pipeline->facts, "packages");
  if (!packages) {
    packages = json_object();
    json_object_set_new(pipeline->facts, "packages", packages);
  }
  if (json_object_set_new(packages, strrchr(path, '/') + 1, json_string(hash)) != 0)
    return mg_fail(pipeline->context, MG_MEMORY, "no memory for the list of packages");
  return MG_OK;
}

static mg_status unpack(mg_context *context, const char *package, mg__text *tar) {
  char *archive;
  size_t bytes;
  MG_TRY(mg_file_read(context, package, archive_bytes_most, &archive, &bytes));
  const mg_status status = mg__deb_unpack(context, package, archive, bytes, tar);
  mg_free(context, archive, bytes + 1);
  return status;
}

static mg_status read_package(mg__pipeline *pipeline, const source *from, const char *folder) {
  char package[PATH_MAX];
  mg__text tar = {0};
  if (!find_package(folder, from->package, package))
    return mg_fail(pipeline->context, MG_FILE, "%s: the package %s has vanished", folder, from->package);
  MG_TRY(note_package(pipeline, package));
  unpacking in = {.pipeline = pipeline, .from = from, .domain = mg__domain_index(pipeline, from->domain)};
  mg_status status = unpack(pipeline->context, package, &tar);
  if (status == MG_OK) status = mg__tar_walk(pipeline->context, package, tar.data, tar.bytes, add_member, &in);
  MG_VECTOR_FREE(pipeline->context, in.page.data, in.page.room);
  MG_VECTOR_FREE(pipeline->context, in.text.data, in.text.room);
  MG_VECTOR_FREE(pipeline->context, tar.data, tar.room);
  return status;
}

static mg_status run(mg__pipeline *pipeline, const void *options) {
  const manpages_options *chosen = options;
  char folder[PATH_MAX];
  MG_TRY(packages_folder(pipeline, folder));
  for (size_t i = 0; i < MG_COUNT(sources); i++)
    if (listed(chosen->domains, sources[i].domain)) MG_TRY(read_package(pipeline, &sources[i], folder));
  return MG_OK;
}

const mg__stage mg__stage_manpages = {.name = "collect",
                                      .summary = "fetches manual pages, C headers and Perl modules from Debian",
                                      .corpus = "manpages",
                                      .kind = MG__COLLECT,
                                      .version = 2,
                                      .options = options_table,
                                      .options_size = sizeof(manpages_options),
                                      .identity = identity,
                                      .run = run};
