/* SPDX-License-Identifier: MIT
 *
 * json_int.h - shared by lua_json.c (reading, the module) and lua_json_out.c (writing). */
#ifndef PERI_JSON_INT_H
#define PERI_JSON_INT_H

#include "script/lua_json.h"
#include "script/sandbox_int.h"

enum { JSON_MAX_DEPTH = 128 };

/* What a Lua value is in JSON. */
typedef enum json_kind {
    JSON_OTHER,   /* boolean, number, string: by their Lua type; or nothing that JSON has */
    JSON_ORDERED, /* an object that remembers its order */
    JSON_ARRAY,   /* a marked array */
    JSON_PLAIN,   /* a table without either mark */
    JSON_NULL,
    JSON_NUMBER /* digits kept as text */
} json_kind;

json_kind json_kind_of(lua_State *L, int idx);
/* Push a list of the table's keys: an ordered object's in its order, later ones behind; otherwise
 * strings sorted by bytes; keys that are no strings last.  want_sort sorts all strings. */
void json_push_keys(lua_State *L, int idx, bool want_sort);
/* Length of the well-formed UTF-8 character at p (1 to 4), 0 when there is none. */
int json_utf8(const char *p, const char *end);

typedef struct json_style {
    bool want_sort, want_ascii;
    const char *item, *key, *indent; /* separators; indent NULL: one line */
} json_style;
/* Push the text of the value at idx; or false with INVALID in *err and nothing pushed. */
bool json_write(lua_State *L, int idx, const json_style *style, peri_error *err);

#endif
