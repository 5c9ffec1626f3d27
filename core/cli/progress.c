/* Progress lines. The time left is what the finished share of this run took, scaled to the rest. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { LINE_BYTES = 160, COLUMNS = 79 };

static const int64_t plain_pause_ns = 30 * (int64_t)1000000000, live_pause_ns = 200 * (int64_t)1000000;

typedef struct row {
  bool running;
  double share;          /* of a running case, 0 .. 1 */
  char text[LINE_BYTES]; /* "step 12/40, loss 3.21, 1.2k tokens/s" */
  int64_t started_ns;
} row;

struct mg_progress {
  mg_context *context;
  int64_t cases, kept, finished, failed;
  bool live;
  int64_t started_ns, told_ns;
  char shown[LINE_BYTES]; /* label of the case that reported last */
  char detail[LINE_BYTES];
  row rows[];
};

static size_t bytes_of(int64_t cases) {
  return sizeof(mg_progress) + (size_t)cases * sizeof(row);
}

mg_status mg_progress_create(mg_context *context, int64_t cases, bool live, mg_progress **out) {
  *out = mg_alloc(context, bytes_of(cases));
  if (!*out) return MG_MEMORY;
  (*out)->context = context;
  (*out)->cases = cases;
  (*out)->live = live;
  (*out)->started_ns = (*out)->told_ns = mg_clock_ns();
  return MG_OK;
}

static void wipe(const mg_progress *p) {
  if (p->live) fputs("\r\033[K", stderr);
}

void mg_progress_destroy(mg_progress *p) {
  if (!p) return;
  wipe(p);
  mg_free(p->context, p, bytes_of(p->cases));
}

static void duration_text(double seconds, char *text, size_t bytes) {
  const long whole = (long)(seconds + 0.5);
  if (whole >= 3600)
    snprintf(text, bytes, "%ldh%02ldm", whole / 3600, whole / 60 % 60);
  else if (whole >= 60)
    snprintf(text, bytes, "%ldm%02lds", whole / 60, whole % 60);
  else
    snprintf(text, bytes, "%lds", whole);
}

/* "3/12 cases, 25 %, about 1m20s left". */
static void overall_text(const mg_progress *p, char *text, size_t bytes) {
  double done = (double)p->finished;
  for (int64_t i = 0; i < p->cases; i++)
    if (p->rows[i].running) done += p->rows[i].share;
  const double due = (double)(p->cases - p->kept), seconds = (double)(mg_clock_ns() - p->started_ns) / 1e9;
  const int used = snprintf(text, bytes, "%lld/%lld cases, %.0f %%", (long long)p->finished + p->kept,
                            (long long)p->cases, due > 0 ? 100 * done / due : 100.0);
  if (done > 0 && done < due && used > 0 && (size_t)used < bytes) {
    char left[32];
    duration_text(seconds / done * (due - done), left, sizeof left);
    snprintf(text + used, bytes - (size_t)used, ", about %s left", left);
  }
}

static void tell(mg_progress *p) {
  const int64_t now = mg_clock_ns();
  if (now - p->told_ns < (p->live ? live_pause_ns : plain_pause_ns)) return;
  p->told_ns = now;
  char overall[LINE_BYTES], line[4 * LINE_BYTES];
  overall_text(p, overall, sizeof overall);
  snprintf(line, sizeof line, "%s%s%s%s%s", overall, *p->shown ? "; " : "", p->shown, *p->detail ? ": " : "",
           p->detail);
  if (p->live)
    fprintf(stderr, "\r\033[K%.*s", COLUMNS, line);
  else
    fprintf(stderr, "%s\n", line);
  fflush(stderr);
}

static void number_text(double number, char *text, size_t bytes) {
  if (number >= 1e6)
    snprintf(text, bytes, "%.3gM", number / 1e6);
  else if (number >= 1e3)
    snprintf(text, bytes, "%.3gk", number / 1e3);
  else
    snprintf(text, bytes, "%.3g", number);
}

static void take_step(mg_progress *p, const mg_case *what, const json_t *progress) {
  row *r = &p->rows[what->number - 1];
  const double step = json_number_value(json_object_get(progress, "step")),
               steps = json_number_value(json_object_get(progress, "steps"));
  const json_t *loss = json_object_get(progress, "loss");
  char rate[32];
  number_text(json_number_value(json_object_get(progress, "tokens_per_second")), rate, sizeof rate);
  r->share = steps > 0 ? step / steps : 0;
  snprintf(p->shown, sizeof p->shown, "%s", what->label);
  if (loss)
    snprintf(p->detail, sizeof p->detail, "step %.0f/%.0f, loss %.3f, %s tokens/s", step, steps,
             json_number_value(loss), rate);
  else
    snprintf(p->detail, sizeof p->detail, "%.2f of %.2f simulated hours", step, steps);
}

/* The first line of a reason, short enough for a terminal. */
static void tell_end(mg_progress *p, const mg_case *what, const char *status, const char *reason) {
  const double seconds = (double)(mg_clock_ns() - p->rows[what->number - 1].started_ns) / 1e9;
  wipe(p);
  fprintf(stderr, "%lld/%lld %s: %s (%.1f s)%s%.*s\n", (long long)p->finished + p->kept, (long long)p->cases,
          what->label, status, seconds, *reason ? ": " : "", (int)strcspn(reason, "\n"), reason);
  fflush(stderr);
}

void mg_progress_changed(void *user, const mg_case *what, const char *status, const char *reason,
                         const json_t *progress) {
  mg_progress *p = user;
  if (!what) {
    tell(p);
    return;
  }
  row *r = &p->rows[what->number - 1];
  if (strcmp(status, "started") == 0) {
    *r = (row){.running = true, .started_ns = mg_clock_ns()};
    snprintf(p->shown, sizeof p->shown, "%s", what->label);
    p->detail[0] = '\0';
  } else if (strcmp(status, "progress") == 0) {
    take_step(p, what, progress);
  } else if (strcmp(status, "kept") == 0) {
    p->kept++;
  } else {
    r->running = false;
    if (strcmp(status, "interrupted") != 0) p->finished++;
    tell_end(p, what, status, reason);
  }
}
