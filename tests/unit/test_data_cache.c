/* Opening twice, damaged entries, several processes at once, and what changes the key. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/corpus.h"
#include "support/testing.h"

static const char spec[] = "{\"corpus\": \"%s\", \"vocabulary\": 300}";

static void write_corpus(const corpus *self) {
  for (int i = 0; i < 24; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s/%d.txt", i % 2 ? "left" : "right", i);
    corpus_write_prose(self, name, (uint64_t)i, 1200);
  }
}

/* The path of the entry of a kind ("tokens-", "documents-"); counts how many there are. */
static int find_entry(const corpus *self, const char *kind, char path[512]) {
  char folder[128];
  snprintf(folder, sizeof folder, "%s/cache", self->folder);
  DIR *entries = opendir(folder);
  int count = 0;
  for (struct dirent *entry; entries && (entry = readdir(entries));) {
    if (strncmp(entry->d_name, kind, strlen(kind)) != 0 || strstr(entry->d_name, ".lock")) continue;
    snprintf(path, 512, "%s/%s", folder, entry->d_name);
    count++;
  }
  if (entries) closedir(entries);
  return count;
}

static long inode_of(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 ? (long)about.st_ino : -1;
}

static void a_second_opening_reads_the_first_ones_work(void **state) {
  corpus *self = *state;
  write_corpus(self);
  mg_dataset *first, *second;
  char path[512];
  assert_ok(self->context, corpus_open(self, spec, &first));
  assert_int_equal(find_entry(self, "tokens-", path), 1);
  const long inode = inode_of(path);
  assert_ok(self->context, corpus_open(self, spec, &second));
  assert_int_equal(inode_of(path), inode);
  assert_string_equal(mg_dataset_checksum(first), mg_dataset_checksum(second));
  assert_true(json_equal(mg_dataset_report(first), mg_dataset_report(second)));
  mg_dataset_close(first);
  mg_dataset_close(second);
}

static void another_vocabulary_starts_from_the_same_documents(void **state) {
  corpus *self = *state;
  write_corpus(self);
  mg_dataset *first, *second;
  char path[512];
  assert_ok(self->context, corpus_open(self, spec, &first));
  find_entry(self, "documents-", path);
  const long inode = inode_of(path);
  assert_ok(self->context, corpus_open(self, "{\"corpus\": \"%s\", \"vocabulary\": 280}", &second));
  assert_int_equal(find_entry(self, "documents-", path), 1);
  assert_int_equal(inode_of(path), inode);
  assert_int_equal(find_entry(self, "tokens-", path), 2);
  assert_int_equal(mg_dataset_vocabulary(second), 280);
  assert_string_not_equal(mg_dataset_checksum(first), mg_dataset_checksum(second));
  mg_dataset_close(first);
  mg_dataset_close(second);
}

static void a_changed_file_changes_the_data(void **state) {
  corpus *self = *state;
  write_corpus(self);
  mg_dataset *first, *second;
  assert_ok(self->context, corpus_open(self, spec, &first));
  corpus_write_prose(self, "left/1.txt", 777, 1200);
  assert_ok(self->context, corpus_open(self, spec, &second));
  assert_string_not_equal(mg_dataset_checksum(first), mg_dataset_checksum(second));
  mg_dataset_close(first);
  mg_dataset_close(second);
}

/* Flips a byte at many places, and cuts the file at many lengths: each time it is made again, the same. */
static void damaged_entries_are_made_again(void **state) {
  corpus *self = *state;
  write_corpus(self);
  mg_dataset *dataset;
  char path[512], checksum[64];
  assert_ok(self->context, corpus_open(self, spec, &dataset));
  snprintf(checksum, sizeof checksum, "%s", mg_dataset_checksum(dataset));
  mg_dataset_close(dataset);
  for (int round = 0; round < 16; round++) {
    assert_int_equal(find_entry(self, round % 4 == 3 ? "documents-" : "tokens-", path), 1);
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    const off_t place = round < 8 ? round * about.st_size / 8 + 1 : round * 8;
    if (round % 2) {
      assert_int_equal(truncate(path, place), 0);
    } else {
      const int file = open(path, O_RDWR);
      char byte;
      assert_int_equal(pread(file, &byte, 1, place), 1);
      byte = (char)(byte ^ 0x20);
      assert_int_equal(pwrite(file, &byte, 1, place), 1);
      close(file);
    }
    if (round % 4 == 3 && find_entry(self, "tokens-", path)) unlink(path);
    assert_ok(self->context, corpus_open(self, spec, &dataset));
    assert_string_equal(mg_dataset_checksum(dataset), checksum);
    mg_dataset_close(dataset);
  }
}

/* Three processes open at once: all see the same data and the work is done once. */
static void processes_share_one_making(void **state) {
  corpus *self = *state;
  write_corpus(self);
  enum { PROCESSES = 3 };
  pid_t children[PROCESSES];
  int results[2];
  assert_int_equal(pipe(results), 0);
  for (int i = 0; i < PROCESSES; i++) {
    children[i] = fork();
    if (children[i] == 0) {
      mg_dataset *dataset;
      char line[65] = {0}, path[512];
      if (corpus_open(self, spec, &dataset) == MG_OK) {
        find_entry(self, "tokens-", path);
        snprintf(line, sizeof line, "%s %ld", mg_dataset_checksum(dataset), inode_of(path));
      }
      _exit(write(results[1], line, 64) == 64 ? 0 : 1);
    }
  }
  char first[65] = {0};
  for (int i = 0; i < PROCESSES; i++) {
    int code = -1;
    char line[65] = {0};
    assert_int_equal(read(results[0], line, 64), 64);
    assert_true(strlen(line) > 32);
    if (i == 0) memcpy(first, line, sizeof first);
    assert_string_equal(line, first); /* the same checksum, and nobody replaced the file */
    assert_int_equal(waitpid(children[i], &code, 0), children[i]);
    assert_int_equal(code, 0);
  }
  close(results[0]);
  close(results[1]);
}

static void an_unusable_cache_is_refused(void **state) {
  corpus *self = *state;
  write_corpus(self);
  char path[128];
  snprintf(path, sizeof path, "%s/cache", self->folder);
  FILE *file = fopen(path, "w");
  fclose(file);
  mg_dataset *dataset;
  assert_refused(self->context, MG_WRITE, "cache", corpus_open(self, spec, &dataset));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, corpus_setup, corpus_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_second_opening_reads_the_first_ones_work),
      TEST(another_vocabulary_starts_from_the_same_documents),
      TEST(a_changed_file_changes_the_data),
      TEST(damaged_entries_are_made_again),
      TEST(processes_share_one_making),
      TEST(an_unusable_cache_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
