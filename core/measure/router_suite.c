/* Walks the checks over the layers that the router accepts. */
#include "measure/router_suite.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "measure/router_suite_internal.h"

/* Numbers of experts to try: powers of two, others that fit trees of three, and a single one. */
static const int64_t sizes[] = {8, 4, 16, 9, 27, 1, 64};

mg_status mg__router_suite_failed(mg_router_row *row, const char *format, ...) {
  row->verdict = MG_ROUTER_FAILED;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(row->detail, sizeof row->detail, format, arguments);
  va_end(arguments);
  return MG_OK;
}

mg_status mg__router_suite_not_applicable(mg_router_row *row, const char *why) {
  row->verdict = MG_ROUTER_NOT_APPLICABLE;
  snprintf(row->detail, sizeof row->detail, "%s", why);
  return MG_OK;
}

/* The sizes that the router accepts, at most SUITE_SHAPES_MAX; the reason of the last refusal if there is none. */
static mg_status accepted_sizes(suite_room *room, int64_t *experts, int64_t *count) {
  mg_status status = MG_OK;
  *count = 0;
  for (size_t i = 0; i < MG_COUNT(sizes) && *count < SUITE_SHAPES_MAX; i++) {
    const mg_router_place place = {.width = SUITE_WIDTH, .experts = sizes[i], .vocabulary = SUITE_VOCABULARY};
    status = mg_router_check_spec(room->context, room->registry, room->spec, place);
    if (status == MG_OK) experts[(*count)++] = sizes[i];
    if (status != MG_OK && status != MG_USAGE) return status;
  }
  if (*count) return MG_OK;
  return mg_fail_where(room->context, status, "the suite's layers have 1, 4, 8, 9, 16, 27 or 64 experts");
}

/* One check on one size. What fails inside the router is the check's failure. */
static mg_status check_size(suite_room *room, const suite_check *check, int64_t experts, mg_router_row *row) {
  suite_subject subject;
  row->verdict = MG_ROUTER_PASSED;
  row->detail[0] = '\0';
  MG_TRY(mg__router_suite_open_subject(room, room->spec, experts, SUITE_WIDTH, &subject));
  const bool applies = (subject.promises & check->promise) == check->promise;
  const mg_status status = applies ? check->run(&subject, row) : mg__router_suite_not_applicable(row, "not promised");
  mg__router_suite_close_subject(&subject);
  mg_arena_reset(room->arena);
  if (status == MG_MEMORY) return status;
  if (status != MG_OK) mg__router_suite_failed(row, "%s", mg_context_message(room->context));
  if (row->verdict != MG_ROUTER_FAILED) return MG_OK;
  char detail[MG_ROUTER_DETAIL_BYTES];
  memcpy(detail, row->detail, sizeof detail);
  return mg__router_suite_failed(row, "%lld experts: %.*s", (long long)experts, MG_ROUTER_DETAIL_BYTES - 40, detail);
}

/* The first failure ends a check; one size where it applies makes it pass. */
static mg_status run_check(suite_room *room, const suite_check *check, const int64_t *experts, int64_t count,
                           mg_router_row *row) {
  bool passed = false;
  *row = (mg_router_row){.check = check->name, .meaning = check->meaning};
  for (int64_t i = 0; i < count; i++) {
    MG_TRY(check_size(room, check, experts[i], row));
    if (row->verdict == MG_ROUTER_FAILED) return MG_OK;
    passed |= row->verdict == MG_ROUTER_PASSED;
  }
  if (!passed) return MG_OK;
  row->verdict = MG_ROUTER_PASSED;
  row->detail[0] = '\0';
  return MG_OK;
}

static void count_row(mg_router_summary *summary, mg_router_verdict verdict) {
  summary->passed += verdict == MG_ROUTER_PASSED;
  summary->failed += verdict == MG_ROUTER_FAILED;
  summary->not_applicable += verdict == MG_ROUTER_NOT_APPLICABLE;
}

static mg_status run_checks(suite_room *room, const mg_router_request *request,
                            bool (*visit)(void *, const mg_router_row *), mg_router_summary *summary) {
  int64_t experts[SUITE_SHAPES_MAX], count, ran = 0;
  MG_TRY(accepted_sizes(room, experts, &count));
  for (size_t i = 0; i < mg__router_checks_count; i++) {
    const suite_check *check = &mg__router_checks[i];
    if (request->filter && !strstr(check->name, request->filter)) continue;
    mg_router_row row;
    MG_TRY(run_check(room, check, experts, count, &row));
    count_row(summary, row.verdict);
    ran++;
    if (visit && !visit(request->user, &row)) return MG_OK;
  }
  return ran ? MG_OK : mg_fail(room->context, MG_NOTHING, "no router check has '%s' in its name", request->filter);
}

static mg_status open_room(mg_context *context, const mg_router_request *request, suite_room *room) {
  *room = (suite_room){.context = context, .registry = request->registry, .spec = request->spec};
  MG_TRY(mg_backend_open(context, request->registry, "reference", NULL, &room->backend));
  if (request->backend) MG_TRY(mg_backend_open(context, request->registry, request->backend, NULL, &room->other));
  MG_TRY(mg_arena_create(context, 1 << 16, &room->arena));
  return mg_tape_create(room->backend, MG_F64, &room->tape);
}

static void close_room(suite_room *room) {
  if (room->tape) mg_tape_destroy(room->tape);
  if (room->arena) mg_arena_destroy(room->arena);
  if (room->other) mg_backend_close(room->other);
  if (room->backend) mg_backend_close(room->backend);
}

mg_status mg_router_suite_check(mg_context *context, const mg_router_request *request,
                                bool (*visit)(void *user, const mg_router_row *row), mg_router_summary *summary) {
  suite_room room;
  *summary = (mg_router_summary){0};
  mg_status status = open_room(context, request, &room);
  if (status == MG_OK) status = run_checks(&room, request, visit, summary);
  close_room(&room);
  return status;
}
