/* The tape in Lua: a Var is a tensor on the tape of the router call that runs now, with methods and operators. One table
 * gives names, signatures and functions; scripts/meta/moegauge.lua repeats the signatures for editors, and a test holds
 * the two equal. */
#include "lua/vars.h"

#include <string.h>

#include "base/options.h"

static const char var_name[] = "moegauge.Var";

typedef struct var_box {
  mg_var *var;
  int64_t generation; /* of the router call it belongs to */
} var_box;

/* ---- boxes -------------------------------------------------------------------------------------------------- */

void mg__push_var(lua_State *L, mg_var *var) {
  if (!var) {
    lua_pushnil(L);
    return;
  }
  var_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (var_box){var, mg__engine_of(L)->generation};
  luaL_setmetatable(L, var_name);
}

mg_var *mg__check_var(lua_State *L, int index) {
  const var_box *box = luaL_checkudata(L, index, var_name);
  if (!mg__engine_of(L)->tape || box->generation != mg__engine_of(L)->generation)
    mg__raise_text(L, MG_USAGE, "a Var of an earlier call was used; a Var lives only while its route function runs");
  return box->var;
}

mg_var *mg__optional_var(lua_State *L, int index) {
  return lua_isnil(L, index) ? NULL : mg__check_var(L, index);
}

/* Pushes the result of a tape function; a NULL is a failure that the tape remembers. */
static int push_result(lua_State *L, mg_var *result) {
  if (!result) mg__raise(L, mg_tape_status(mg__engine_of(L)->tape));
  mg__push_var(L, result);
  return 1;
}

static mg_tape *tape_of(lua_State *L) {
  return mg__engine_of(L)->tape;
}

/* ---- methods ------------------------------------------------------------------------------------------------ */

typedef mg_var *(*one_argument)(mg_tape *tape, mg_var *x);
typedef mg_var *(*two_arguments)(mg_tape *tape, mg_var *x, mg_var *y);

typedef struct method {
  const char *name, *signature;
  one_argument one;
  two_arguments two;
  lua_CFunction other;
} method;

static int call_one(lua_State *L) {
  const method *m = lua_touserdata(L, lua_upvalueindex(1));
  return push_result(L, m->one(tape_of(L), mg__check_var(L, 1)));
}

static int call_two(lua_State *L) {
  const method *m = lua_touserdata(L, lua_upvalueindex(1));
  mg_var *x = mg__check_var(L, 1), *y = mg__check_var(L, 2);
  return push_result(L, m->two(tape_of(L), x, y));
}

static int affine(lua_State *L) {
  mg_var *x = mg__check_var(L, 1);
  const double scale = luaL_checknumber(L, 2), shift = luaL_checknumber(L, 3);
  return push_result(L, mg_affine(tape_of(L), x, scale, shift));
}

static int scale(lua_State *L) {
  mg_var *x = mg__check_var(L, 1);
  return push_result(L, mg_scale(tape_of(L), x, luaL_checknumber(L, 2)));
}

static int clamp(lua_State *L) {
  mg_var *x = mg__check_var(L, 1);
  const double low = luaL_checknumber(L, 2), high = luaL_checknumber(L, 3);
  return push_result(L, mg_unary_op(tape_of(L), MG_UNARY_CLAMP, x, low, high));
}

static int tanh_of(lua_State *L) {
  return push_result(L, mg_unary_op(tape_of(L), MG_UNARY_TANH, mg__check_var(L, 1), 0, 0));
}

static int sqrt_of(lua_State *L) {
  return push_result(L, mg_unary_op(tape_of(L), MG_UNARY_SQRT, mg__check_var(L, 1), 0, 0));
}

static int sign_of(lua_State *L) {
  return push_result(L, mg_unary_op(tape_of(L), MG_UNARY_SIGN, mg__check_var(L, 1), 0, 0));
}

static int to_ids(lua_State *L) {
  return push_result(L, mg_cast(tape_of(L), mg__check_var(L, 1), MG_I32));
}

static int greater(lua_State *L) {
  mg_var *x = mg__check_var(L, 1), *y = mg__check_var(L, 2);
  return push_result(L, mg_binary_op(tape_of(L), MG_BINARY_GREATER, x, y));
}

static int where(lua_State *L) {
  mg_var *mask = mg__check_var(L, 1), *x = mg__check_var(L, 2);
  return push_result(L, mg_where(tape_of(L), mask, x, luaL_checknumber(L, 3)));
}

static int ids_where(lua_State *L) {
  mg_var *mask = mg__check_var(L, 1);
  return push_result(L, mg_ids_where(tape_of(L), mask, mg__check_var(L, 2)));
}

static int slice(lua_State *L) {
  mg_var *x = mg__check_var(L, 1);
  const lua_Integer first = luaL_checkinteger(L, 2), count = luaL_checkinteger(L, 3);
  return push_result(L, mg_slice(tape_of(L), x, first - 1, count)); /* columns count from 1 in Lua */
}

static int reshape(lua_State *L) {
  mg_var *x = mg__check_var(L, 1);
  const lua_Integer rows = luaL_checkinteger(L, 2), columns = luaL_checkinteger(L, 3);
  return push_result(L, mg_reshape2(tape_of(L), x, rows, columns));
}

static int matmul(lua_State *L) {
  mg_var *x = mg__check_var(L, 1), *y = mg__check_var(L, 2);
  const bool transpose_x = lua_toboolean(L, 3), transpose_y = lua_toboolean(L, 4);
  return push_result(L, mg_matmul(tape_of(L), x, transpose_x, y, transpose_y));
}

static int gather_dot(lua_State *L) {
  mg_var *x = mg__check_var(L, 1), *weight = mg__check_var(L, 2);
  return push_result(L, mg_gather_dot(tape_of(L), x, weight, mg__check_var(L, 3)));
}

static int scatter_columns(lua_State *L) {
  mg_var *x = mg__check_var(L, 1), *ids = mg__check_var(L, 2);
  return push_result(L, mg_scatter_columns(tape_of(L), x, ids, luaL_checkinteger(L, 3)));
}

static int top_k(lua_State *L) {
  mg_var *x = mg__check_var(L, 1), *values = NULL;
  mg_var *ids = mg_top_k(tape_of(L), x, luaL_checkinteger(L, 2), &values);
  push_result(L, ids);
  return 1 + push_result(L, values);
}

static int histogram(lua_State *L) {
  mg_var *ids = mg__check_var(L, 1);
  const lua_Integer bins = luaL_checkinteger(L, 2), segments = luaL_optinteger(L, 3, 1);
  return push_result(L, mg_histogram(tape_of(L), ids, bins, segments));
}

static int rows(lua_State *L) {
  lua_pushinteger(L, mg_var_rows(mg__check_var(L, 1)));
  return 1;
}

static int columns(lua_State *L) {
  lua_pushinteger(L, mg_var_columns(mg__check_var(L, 1)));
  return 1;
}

#define ONE(name, function)                                                                                            \
  { name, "(): Var", .one = function }
#define TWO(name, arguments, function)                                                                                 \
  { name, "(" arguments "): Var", .two = function }
#define OTHER(name, signature, function)                                                                               \
  { name, signature, .other = function }
static const method methods[] = {ONE("exp", mg_exp),
                                 ONE("log", mg_log),
                                 ONE("square", mg_square),
                                 OTHER("sqrt", "(): Var", sqrt_of),
                                 ONE("sigmoid", mg_sigmoid),
                                 OTHER("tanh", "(): Var", tanh_of),
                                 ONE("relu", mg_relu),
                                 ONE("softplus", mg_softplus),
                                 ONE("normal_cdf", mg_normal_cdf),
                                 OTHER("scale", "(factor: number): Var", scale),
                                 OTHER("affine", "(factor: number, shift: number): Var", affine),
                                 OTHER("clamp", "(low: number, high: number): Var", clamp),
                                 OTHER("sign", "(): Var", sign_of),
                                 OTHER("ids", "(): Var", to_ids),
                                 OTHER("greater", "(y: Var): Var", greater),
                                 OTHER("where", "(x: Var, otherwise: number): Var", where),
                                 OTHER("ids_where", "(ids: Var): Var", ids_where),
                                 ONE("detach", mg_detach),
                                 OTHER("slice", "(first: integer, count: integer): Var", slice),
                                 OTHER("reshape", "(rows: integer, columns: integer): Var", reshape),
                                 TWO("concat", "y: Var", mg_concat),
                                 ONE("transpose", mg_transpose),
                                 ONE("sum", mg_sum),
                                 ONE("mean", mg_mean),
                                 ONE("sum_columns", mg_sum_columns),
                                 ONE("sum_rows", mg_sum_rows),
                                 ONE("mean_rows", mg_mean_rows),
                                 ONE("cumsum", mg_cumsum),
                                 ONE("softmax", mg_softmax),
                                 ONE("log_sum_exp", mg_log_sum_exp),
                                 ONE("shares", mg_shares),
                                 ONE("unit_rows", mg_unit_rows),
                                 ONE("sqrt_softplus", mg_sqrt_softplus),
                                 OTHER("matmul", "(y: Var, transpose_x?: boolean, transpose_y?: boolean): Var", matmul),
                                 TWO("linear", "weight: Var", mg_linear),
                                 OTHER("gather_dot", "(weight: Var, ids: Var): Var", gather_dot),
                                 TWO("gather_rows", "ids: Var", mg_gather_rows),
                                 TWO("gather_columns", "ids: Var", mg_gather_columns),
                                 OTHER("scatter_columns", "(ids: Var, columns: integer): Var", scatter_columns),
                                 OTHER("top_k", "(k: integer): Var, Var", top_k),
                                 OTHER("histogram", "(bins: integer, segments?: integer): Var", histogram),
                                 OTHER("rows", "(): integer", rows),
                                 OTHER("columns", "(): integer", columns)};

/* ---- operators ---------------------------------------------------------------------------------------------- */

/* x op number, or number op x, as scale * x + shift; the sign says which side the number stood on. */
static int with_number(lua_State *L, char operation, double number, mg_var *x, bool number_first) {
  mg_tape *tape = tape_of(L);
  switch (operation) {
  case '+': return push_result(L, mg_affine(tape, x, 1, number));
  case '-': return push_result(L, number_first ? mg_affine(tape, x, -1, number) : mg_affine(tape, x, 1, -number));
  case '*': return push_result(L, mg_affine(tape, x, number, 0));
  default:
    if (!number_first) return push_result(L, mg_affine(tape, x, 1 / number, 0));
    return push_result(L, mg_affine(tape, mg_unary_op(tape, MG_UNARY_RECIPROCAL, x, 0, 0), number, 0));
  }
}

static int operate(lua_State *L, char operation, two_arguments function) {
  if (lua_type(L, 1) == LUA_TNUMBER) return with_number(L, operation, lua_tonumber(L, 1), mg__check_var(L, 2), true);
  if (lua_type(L, 2) == LUA_TNUMBER) return with_number(L, operation, lua_tonumber(L, 2), mg__check_var(L, 1), false);
  mg_var *x = mg__check_var(L, 1), *y = mg__check_var(L, 2);
  return push_result(L, function(tape_of(L), x, y));
}

static int add(lua_State *L) {
  return operate(L, '+', mg_add);
}
static int subtract(lua_State *L) {
  return operate(L, '-', mg_sub);
}
static int multiply(lua_State *L) {
  return operate(L, '*', mg_mul);
}
static int divide(lua_State *L) {
  return operate(L, '/', mg_div);
}

static int negate(lua_State *L) {
  return push_result(L, mg_scale(tape_of(L), mg__check_var(L, 1), -1));
}

static int to_text(lua_State *L) {
  char text[MG_SHAPE_TEXT_BYTES];
  const mg_tensor *tensor = mg_var_tensor(mg__check_var(L, 1));
  lua_pushfstring(L, "Var(%s %s)", mg_dtype_name(tensor->dtype), mg_shape_text(tensor, text));
  return 1;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static void push_method(lua_State *L, const method *m) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)m);
  lua_pushcclosure(L, m->one ? call_one : m->two ? call_two : m->other, 1);
}

/* A method that is not there: the nearest one is named. */
static int no_method(lua_State *L) {
  const char *names[MG_COUNT(methods)];
  for (size_t i = 0; i < MG_COUNT(methods); i++) names[i] = methods[i].name;
  const char *wanted = luaL_tolstring(L, 2, NULL), *nearest = mg_nearest_name(wanted, names, MG_COUNT(methods));
  if (nearest) mg__raise_text(L, MG_USAGE, "a Var has no method '%s'; did you mean '%s'?", wanted, nearest);
  mg__raise_text(L, MG_USAGE, "a Var has no method '%s'; the annotations in scripts/meta/moegauge.lua list them",
                 wanted);
}

void mg__open_vars(lua_State *L) {
  static const luaL_Reg operators[] = {{"__add", add},    {"__sub", subtract}, {"__mul", multiply},
                                       {"__div", divide}, {"__unm", negate},   {"__tostring", to_text},
                                       {NULL, NULL}};
  luaL_newmetatable(L, var_name);
  luaL_setfuncs(L, operators, 0);
  lua_createtable(L, 0, MG_COUNT(methods));
  for (size_t i = 0; i < MG_COUNT(methods); i++) {
    push_method(L, &methods[i]);
    lua_setfield(L, -2, methods[i].name);
  }
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, no_method);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

int mg__var_methods(lua_State *L) {
  lua_createtable(L, 0, MG_COUNT(methods));
  for (size_t i = 0; i < MG_COUNT(methods); i++) {
    lua_pushstring(L, methods[i].signature);
    lua_setfield(L, -2, methods[i].name);
  }
  return 1;
}
