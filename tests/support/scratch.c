/* mkdtemp and rm -r. */
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>

int mg_scratch_open(mg_scratch *scratch, const char *name) {
  snprintf(scratch->folder, sizeof scratch->folder, "/tmp/moegauge-test-XXXXXX");
  if (!mkdtemp(scratch->folder)) return 1;
  snprintf(scratch->path, sizeof scratch->path, "%.40s/%.15s", scratch->folder, name);
  return 0;
}

int mg_scratch_close(const mg_scratch *scratch) {
  char command[64];
  snprintf(command, sizeof command, "rm -r %s", scratch->folder);
  return system(command); // NOLINT(bugprone-command-processor): the name is mkdtemp's
}
