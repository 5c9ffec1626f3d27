/* Tree gating: experts are the leaves of a tree; a beam of paths descends it, and only the gates below kept nodes run.
 *
 *   p(child | node) = softmax over the node's children of x . w_child;   p(path) = product along the path
 *   keep the `beam` most probable nodes of each level; choose the k most probable leaves below them; w = p(leaf),
 *   divided by the sum of the k when renormalised.
 *   straight paths: the weights are those of hard decisions, 1, or 1/k when renormalised, and their gradient that of the
 *   soft ones (Bengio et al. 2013, arXiv 1308.3432).
 *
 * Depth 2 with a beam over all groups is the product of gates of Shazeer et al. 2017, eq. 12; a beam over all nodes of
 * every level gives the exact distribution over all leaves. Level l has b_1 ... b_l nodes; the children of node n are
 * n b .. n b + b - 1. Node numbers are computed in f32, which is exact below 2^24. */
#include <moegauge/moegauge.h>

enum { LEVELS_MAX = MG_OPTION_INTS_MAX };
enum { SOFT, STRAIGHT };

typedef struct tree_options {
  int64_t k, depth, beam, paths;
  mg_option_ints branching;
  bool renormalise;
} tree_options;

static const char *const kinds_of_path[] = {"soft", "straight", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(tree_options, k, 2, 1, 65536, "experts kept per token"),
    MG_OPTION_INTS(tree_options, branching, "", 2, 65536,
                   "children per node, level by level; one number holds for all levels"),
    MG_OPTION_INT(tree_options, depth, 0, 0, LEVELS_MAX, "levels; 0 = as branching says, or 2"),
    MG_OPTION_INT(tree_options, beam, 0, 0, 65536, "nodes kept per level, at least k; 0 = k"),
    MG_OPTION_CHOICE(tree_options, paths, SOFT, kinds_of_path,
                     "weights of path probabilities, or of hard decisions with their gradient (straight-through)"),
    MG_OPTION_BOOL(tree_options, renormalise, true, "divide the kept path probabilities by their sum"),
    MG_OPTION_END};

#define LEVEL(name)                                                                                                    \
  { name, {MG_DIM_CUSTOM, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false }
static const mg_param_spec params[] = {
    LEVEL("level1"),  LEVEL("level2"),  LEVEL("level3"),  LEVEL("level4"),  LEVEL("level5"),  LEVEL("level6"),
    LEVEL("level7"),  LEVEL("level8"),  LEVEL("level9"),  LEVEL("level10"), LEVEL("level11"), LEVEL("level12"),
    LEVEL("level13"), LEVEL("level14"), LEVEL("level15"), LEVEL("level16"), MG_PARAM_END};

/* ---- the shape --------------------------------------------------------------------------------------------- */

typedef struct tree_shape {
  int64_t levels, beam;
  int64_t branching[LEVELS_MAX];
  int64_t nodes[LEVELS_MAX]; /* of each level */
} tree_shape;

/* b^levels, or -1 beyond any number of experts. */
static int64_t leaves_of(int64_t b, int64_t levels) {
  int64_t leaves = 1;
  for (int64_t l = 0; l < levels; l++) {
    if (leaves > (1 << 24) / b) return -1;
    leaves *= b;
  }
  return leaves;
}

/* One branching for all levels when depth, or branching, or neither is given; -1 when no integer fits. */
static int64_t even_branching(const tree_options *o, int64_t experts, int64_t *levels) {
  *levels = o->depth ? o->depth : 2;
  if (o->branching.count == 1) {
    const int64_t b = o->branching.value[0];
    for (int64_t l = 1; !o->depth && l <= LEVELS_MAX && leaves_of(b, l) > 0 && leaves_of(b, l) <= experts; l++)
      *levels = l;
    return b;
  }
  for (int64_t b = 2; leaves_of(b, *levels) > 0 && leaves_of(b, *levels) <= experts; b++)
    if (leaves_of(b, *levels) == experts) return b;
  return -1;
}

/* Fills the shape; returns the leaves it has (not always the experts of the layer), or -1 when none fits. */
static int64_t shape_of(const mg_router *router, tree_shape *shape) {
  const tree_options *o = router->options;
  *shape = (tree_shape){.levels = o->branching.count, .beam = o->beam ? o->beam : o->k};
  const int64_t even = o->branching.count > 1 ? 0 : even_branching(o, router->experts, &shape->levels);
  int64_t leaves = even < 0 ? -1 : 1;
  for (int64_t l = 0; l < shape->levels && leaves > 0; l++) {
    const int64_t b = even ? even : o->branching.value[l];
    leaves = b < 1 || leaves > (1 << 24) / b ? -1 : leaves * b;
    shape->branching[l] = b;
    shape->nodes[l] = leaves;
  }
  return leaves;
}

static mg_status refuse_shape(const mg_router *router, const tree_shape *shape, int64_t leaves) {
  const tree_options *o = router->options;
  if (leaves > 0)
    return mg_fail(router->context, MG_USAGE,
                   "router tree: %lld levels of this branching have %lld leaves, but the layer has %lld experts; the "
                   "product of the branching must equal the experts",
                   (long long)shape->levels, (long long)leaves, (long long)router->experts);
  return mg_fail(router->context, MG_USAGE,
                 "router tree: %lld experts are no tree of %lld even levels; give branching as a list whose product is "
                 "%lld",
                 (long long)router->experts, (long long)(o->depth ? o->depth : 2), (long long)router->experts);
}

static mg_status check(const mg_router *router) {
  const tree_options *o = router->options;
  mg_context *context = router->context;
  tree_shape shape;
  const int64_t leaves = shape_of(router, &shape);
  if (leaves != router->experts) return refuse_shape(router, &shape, leaves);
  if (o->depth && o->depth != shape.levels)
    return mg_fail(context, MG_USAGE,
                   "router tree: depth %lld does not match a branching of %lld levels; give one of them",
                   (long long)o->depth, (long long)shape.levels);
  MG_TRY(mg_router_check_k(router, o->k, o->renormalise));
  if (shape.beam < o->k)
    return mg_fail(context, MG_USAGE, "router tree: beam = %lld must be at least k = %lld, or 0 for k",
                   (long long)o->beam, (long long)o->k);
  return MG_OK;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)dim;
  tree_shape shape;
  shape_of(router, &shape);
  return param < shape.levels ? shape.nodes[param] : 0;
}

static int64_t groupings(const mg_router *router, int64_t *groups, int64_t most) {
  tree_shape shape;
  shape_of(router, &shape);
  const int64_t count = shape.levels < most ? shape.levels : most;
  for (int64_t l = 0; l < count; l++) groups[l] = shape.nodes[l];
  return count;
}

/* Nodes kept before level l, whose children are evaluated there. */
static int64_t kept_before(const tree_shape *shape, int64_t level) {
  if (level == 0) return 1;
  return shape->nodes[level - 1] < shape->beam ? shape->nodes[level - 1] : shape->beam;
}

static double gate_flops(const mg_router *router) {
  tree_shape shape;
  shape_of(router, &shape);
  double gates = 0;
  for (int64_t l = 0; l < shape.levels; l++) gates += (double)(kept_before(&shape, l) * shape.branching[l]);
  return 2 * gates * (double)router->width;
}

static uint32_t promises(const mg_router *router) {
  const tree_options *o = router->options;
  const uint32_t sum = o->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  const uint32_t hard = o->paths == STRAIGHT ? MG_ROUTER_STRAIGHT_THROUGH : 0;
  return sum | hard | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_GIVES_PROBS;
}

/* ---- the descent ------------------------------------------------------------------------------------------- */

/* Where the beam stands: `count` nodes per token and their path probabilities [T,count]. */
typedef struct frontier {
  int64_t count;
  mg_var *nodes; /* f32 [T,count] node numbers; NULL while it is all nodes of the level in order */
  mg_var *path;  /* NULL at the root: probability 1 */
} frontier;

static mg_var *zeros_with_row(mg_tape *tape, int64_t rows, int64_t columns) {
  const int64_t shape[] = {rows, columns}, row[] = {1, columns};
  mg_var *numbers = mg_affine(tape, mg_cumsum(tape, mg_fill(tape, MG_F32, 2, row, 1)), 1, -1);
  return mg_add(tape, mg_fill(tape, MG_F32, 2, shape, 0), mg_reshape(tape, numbers, 1, &columns));
}

/* Numbers of the children of every node: f32 [T, count * b]. */
static mg_var *children_of(mg_tape *tape, const frontier *at, int64_t tokens, int64_t b) {
  mg_var *first = mg_scale(tape, mg_reshape2(tape, at->nodes, tokens * at->count, 1), (double)b);
  mg_var *numbers = mg_add(tape, zeros_with_row(tape, tokens * at->count, b), first);
  return mg_reshape2(tape, numbers, tokens, at->count * b);
}

/* Path probabilities of all children [T, count * b]; their numbers go to *children, NULL when they are all in order. */
static mg_var *descend(mg_tape *tape, const mg_route_input *in, mg_var *weight, const frontier *at, int64_t b,
                       mg_var **children) {
  const int64_t groups = in->tokens * at->count;
  *children = at->nodes ? children_of(tape, at, in->tokens, b) : NULL;
  mg_var *score =
      at->nodes ? mg_gather_dot(tape, in->x, weight, mg_cast(tape, *children, MG_I32)) : mg_linear(tape, in->x, weight);
  mg_var *prob = mg_softmax(tape, mg_reshape2(tape, score, groups, b));
  if (at->path) prob = mg_mul(tape, prob, mg_reshape2(tape, at->path, groups, 1));
  return mg_reshape2(tape, prob, in->tokens, at->count * b);
}

/* Numbers of the candidates that `ids` select; the candidates are in order when `children` is NULL. */
static mg_var *select_nodes(mg_tape *tape, mg_var *children, mg_var *ids) {
  return children ? mg_gather_columns(tape, children, ids) : mg_cast(tape, ids, MG_F32);
}

static frontier keep_best(mg_tape *tape, mg_var *path, mg_var *children, int64_t beam) {
  if (mg_var_columns(path) <= beam) return (frontier){mg_var_columns(path), children, path};
  frontier kept = {.count = beam};
  mg_var *ids = mg_top_k(tape, path, beam, &kept.path);
  kept.nodes = select_nodes(tape, children, ids);
  return kept;
}

/* `hard` everywhere, with the gradient of the soft weights. */
static mg_var *straight(mg_tape *tape, mg_var *soft, double hard) {
  return mg_add(tape, soft, mg_detach(tape, mg_affine(tape, soft, -1, hard)));
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const tree_options *o = router->options;
  tree_shape shape;
  shape_of(router, &shape);
  frontier at = {.count = 1};
  mg_var *path = NULL, *children = NULL;
  for (int64_t l = 0; l < shape.levels; l++) {
    if (l) at = keep_best(tape, path, children, shape.beam);
    path = descend(tape, in, mg_router_param(router, tape, params[l].name), &at, shape.branching[l], &children);
  }
  mg_var *best = mg_top_k(tape, path, o->k, &out->weights);
  out->ids = mg_cast(tape, select_nodes(tape, children, best), MG_I32);
  out->probs = children ? mg_scatter_columns(tape, path, mg_cast(tape, children, MG_I32), router->experts) : path;
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
  if (o->paths == STRAIGHT) out->weights = straight(tape, out->weights, o->renormalise ? 1 / (double)o->k : 1);
  return mg_tape_status(tape);
}

/* The beam after each level that is wider, and the k best leaves. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  tree_shape shape;
  shape_of(router, &shape);
  int64_t looks = 0;
  for (int64_t l = 0; l < shape.levels; l++) {
    const int64_t candidates = kept_before(&shape, l) * shape.branching[l];
    if (candidates > shape.beam || l + 1 == shape.levels) looks += candidates;
  }
  return (double)(call->tokens * looks);
}

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "tree",
                                        .summary = "Hierarchical gating: a beam of paths down a tree of experts.",
                                        .paper = "Shazeer et al. 2017, arXiv 1701.06538, appendix B",
                                        .formula = "p(path) = product of softmax(x . w_child) down the tree; keep the "
                                                   "k most probable leaves; w = p / sum of the kept p",
                                        .options = options,
                                        .options_size = sizeof(tree_options),
                                        .params = params,
                                        .check = check,
                                        .dimension = dimension,
                                        .promises = promises,
                                        .route = route,
                                        .gate_flops = gate_flops,
                                        .groupings = groupings,
                                        .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
