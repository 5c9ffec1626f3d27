/* Everything that a plugin or an embedder may use. */
#ifndef MOEGAUGE_H
#define MOEGAUGE_H

#include "moegauge/api.h"
#include "moegauge/backend.h"
#include "moegauge/context.h"
#include "moegauge/op.h"
#include "moegauge/option.h"
#include "moegauge/param.h"
#include "moegauge/rng.h"
#include "moegauge/router.h"
#include "moegauge/status.h"
#include "moegauge/stored.h"
#include "moegauge/tape.h"
#include "moegauge/tensor.h"

#endif
