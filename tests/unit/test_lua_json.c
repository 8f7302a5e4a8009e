/* SPDX-License-Identifier: MIT
 *
 * test_lua_json.c - JSON in Lua: cases as text, errors with their place, round trips. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "lua_world.h"
#include "script/lua_json.h"

#define CASES PERI_SOURCE_DIR "/tests/cases/json/"

/* Each line of the file: TEXT <tab> what encode prints for it, or "! " and the error. */
static void cases_read_and_write_as_listed(void **state) {
    char *text;
    size_t size, n = 0;
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    lua_State *L = peri_lua_main(w.l);
    assert_ok(peri_file_read(CASES "values.txt", 1 << 20, &text, &size, &w.err), w.err);
    for (char *line = text; *line != 0; n++) {
        size_t length = strcspn(line, "\n");
        line[length] = 0;
        char *want = strchr(line, '\t');
        if (line[0] != '#') {
            char got[600];
            assert_non_null(want);
            *want++ = 0;
            if (peri_lua_push_json(L, line, strlen(line), &w.err) != PERI_OK)
                snprintf(got, sizeof got, "! %s", w.err.text);
            else if (peri_lua_to_json(L, -1, &w.err) != PERI_OK)
                fail_msg("%s: cannot be written: %s", line, w.err.text);
            else
                snprintf(got, sizeof got, "%s", lua_tostring(L, -1));
            if (strcmp(got, want) != 0) fail_msg("%s: found %s, expected %s", line, got, want);
            lua_settop(L, 0);
        }
        line += length + 1;
    }
    assert_true(n > 70);
    peri_free(text);
    close_world(&w);
}

static void values_keep_kind_order_and_digits(void **state) {
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    expect_print(
        &w,
        "local json = (...)('json')\n"
        "local t = "
        "json.decode('{\"z\":1,\"a\":{},\"m\":[],\"big\":123456789012345678901,\"n\":null}')\n"
        "for k, v in pairs(t) do print(k, json.kind(v)) end\n"
        "print(t.n == json.null, tostring(t.big), math.type(t.z), math.type(json.decode('1.0')))\n"
        "t.z = nil; t.later = true; t.also = 2; t.a.x = 1\n"
        "print(json.encode(t), table.concat(json.keys(t), ' '))\n"
        "print(json.encode(t, { sort = true }))\n"
        "print(json.encode(t, { python = true }))\n"
        "print(json.encode(json.object{ {'b', 1}, {'a', json.array{}} }, { indent = 2 }))\n"
        "print(json.encode({ 'é', '\\u{1F600}' }, { ascii = true }), json.encode({}), "
        "json.encode(json.array{}))\n"
        "print(json.encode({ b = 1, a = 2, [''] = 3 }), json.encode({1, 2}, { separators = {' , ', "
        "' : '} }))\n"
        "print(json.encode(json.number('-12345678901234567890')), json.number('1') == "
        "json.number('1'))\n"
        "print(getmetatable(t), getmetatable(json.null), tostring(json.null))\n",
        "z\tnumber\na\tobject\nm\tarray\nbig\tnumber\nn\tnull\n"
        "true\t123456789012345678901\tinteger\tfloat\n"
        "{\"a\":{\"x\":1},\"m\":[],\"big\":123456789012345678901,\"n\":null,\"also\":2,\"later\":"
        "true}\t"
        "a m big n also later\n"
        "{\"a\":{\"x\":1},\"also\":2,\"big\":123456789012345678901,\"later\":true,\"m\":[],\"n\":"
        "null}\n"
        "{\"a\": {\"x\": 1}, \"m\": [], \"big\": 123456789012345678901, \"n\": null, \"also\": 2, "
        "\"later\": true}\n"
        "{\n  \"b\": 1,\n  \"a\": []\n}\n"
        "[\"\\u00e9\",\"\\ud83d\\ude00\"]\t{}\t[]\n"
        "{\"\":3,\"a\":2,\"b\":1}\t[1 , 2]\n"
        "-12345678901234567890\ttrue\n"
        "false\tfalse\tnull\n");
    close_world(&w);
}

static void what_json_lacks_is_refused_with_its_path(void **state) {
    static const char *const cases[][2] = {
        {"{ a = { 1, { b = print } } }", "$.a[2].b: found a function, which JSON does not have"},
        {"0 / 0", "$: JSON has no NaN"},
        {"{ math.huge }", "$[1]: JSON has no infinity"},
        {"{ 1, nil, 3 }", "$: an array must have the keys 1 to n and no others"},
        {"{ 1, x = 2 }", "$: an array must have the keys 1 to n and no others"},
        {"{ [true] = 1 }", "$: an object has only strings as keys"},
        {"{ a = '\\xff' }", "$.a: the string is not UTF-8: byte 1 is 0xff"},
        {"{ ['\\xc3'] = 1 }", "the string is not UTF-8: byte 1 is 0xc3"},
        {"cycle", "$.again: the table contains itself"},
        {"deep", "more than 128 levels of nesting"},
    };
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text,
                 "local json = (...)('json')\nlocal cycle, deep = {}, {}\ncycle.again = cycle\n"
                 "for _ = 1, 128 do deep = { deep } end\n"
                 "local v, err = json.encode(%s)\nprint(v, err.code)\nerror(err)\n",
                 cases[i][0]);
        expect_error(&w, text, PERI_E_INVALID, cases[i][1]);
        assert_string_equal(w.out.data, "nil\tinvalid\n");
    }
    expect_error(&w, "(...)('json').encode(1, { indnet = 1 })", PERI_E_OTHER,
                 "t.lua:1: JSON: unknown option 'indnet'; did you mean 'indent'?");
    expect_error(&w, "(...)('json').encode(1, { indent = 99 })", PERI_E_OTHER, "0 to 16");
    expect_error(&w, "(...)('json').object{ 1 }", PERI_E_OTHER, "entry 1: expected {key, value}");
    expect_error(&w, "(...)('json').number('1.5')", PERI_E_OTHER, "digits of an integer");
    close_world(&w);
}

static uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void every_float_comes_back(void **state) {
    enum { N = 20000 };
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    lua_State *L = peri_lua_main(w.l);
    for (uint64_t i = 0; i < N; i++) {
        uint64_t bits = mix(i + 1);
        double x, back;
        if (i % 4 == 1) bits &= ~(UINT64_C(0x7ff) << 52); /* below the normal range */
        memcpy(&x, &bits, sizeof x);
        if (i % 4 == 2) x = (double)(int64_t)(bits >> 40) / 100;
        if (!isfinite(x)) continue;
        lua_pushnumber(L, x);
        assert_ok(peri_lua_to_json(L, -1, &w.err), w.err);
        size_t n;
        const char *s = lua_tolstring(L, -1, &n);
        assert_ok(peri_lua_push_json(L, s, n, &w.err), w.err);
        back = lua_tonumber(L, -1);
        if (memcmp(&back, &x, sizeof x) != 0 || lua_isinteger(L, -1) || n > 24)
            fail_msg("%.17g: written %s, read %.17g", x, s, back);
        lua_settop(L, 0);
    }
    close_world(&w);
}

static void hostile_text_is_bounded(void **state) {
    world w;
    (void)state;
    world_needs_signals();
    open_world(&w, (peri_lua_options){0});
    expect_print(
        &w,
        "local json = (...)('json')\n"
        "print(json.decode(('['):rep(1000000)))\n"
        "print(json.decode(('{\"a\":'):rep(200) .. '1' .. ('}'):rep(200)))\n"
        "print(#json.encode(json.decode(('['):rep(128) .. (']'):rep(128))))\n"
        "print(json.decode('\"' .. ('x'):rep(100000)))\n"
        "print(#tostring(json.decode(('9'):rep(100000))))\n"
        "print(json.decode('1e999'))\n",
        "nil\tline 1, column 129: found '[', expected at most 128 levels of nesting\n"
        "nil\tline 1, column 641: found '{', expected at most 128 levels of nesting\n256\n"
        "nil\tline 1, column 100002: found end of text, expected '\"' at the end of the string\n"
        "100000\n"
        "nil\tline 1, column 1: found '1', expected a number that fits 64-bit floating point\n");
    close_world(&w);
    open_world(&w, (peri_lua_options){.slice_ms = 200});
    expect_error(&w,
                 "local json = (...)('json')\nlocal s = '[' .. ('1,'):rep(100000) .. '1]'\n"
                 "while true do pcall(json.decode, s) end",
                 PERI_E_TIMEOUT, "t.lua:3: script ran 200 ms");
    world_is_fine(&w);
    close_world(&w);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_read_and_write_as_listed),
        cmocka_unit_test(values_keep_kind_order_and_digits),
        cmocka_unit_test(what_json_lacks_is_refused_with_its_path),
        cmocka_unit_test(every_float_comes_back),
        cmocka_unit_test(hostile_text_is_bounded),
    };
    return peri_run_tests(tests);
}
