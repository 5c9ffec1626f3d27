/* What every public header needs: symbol visibility, the version, and the plugin ABI number. */
#ifndef MOEGAUGE_API_H
#define MOEGAUGE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define MG_EXTERN_C extern "C"
#else
#define MG_EXTERN_C extern
#endif

/* A function of libmoegauge that plugins and embedders may call. */
#define MG_API MG_EXTERN_C __attribute__((visibility("default")))

/* Lets the compiler check a printf-like call; both arguments count parameters from 1. */
#define MG_PRINTF(text, values) __attribute__((format(printf, text, values)))

#define MG_VERSION_MAJOR 0
#define MG_VERSION_MINOR 1
#define MG_VERSION_PATCH 0
#define MG_VERSION "0.1.0"

/* The plugin ABI. It changes when a table's existing fields change; a table that only grows at its
 * tail keeps it, because every table states its own `size`. */
#define MG_ABI 2u

/* Number of elements of a C array. */
#define MG_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
