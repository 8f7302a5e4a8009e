# SPDX-License-Identifier: MIT
# kill -9 at every kind of moment of create, cp and rm.  Afterwards every model that is listed is complete, models from before
# are there, and doing it again succeeds and leaves nothing over.  PERI_SEED sets the seed; PERI_LONG asks for 200 kills.
. "$(dirname "$0")/harness.sh"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
export HOME=$tmp/home XDG_CONFIG_HOME=$tmp/config
mkdir "$HOME"
# Stores where syncing takes no time, if there is such a place: hundreds of commands sync dozens of times.
fast=$(mktemp -d /dev/shm/perigee.XXXXXX 2>/dev/null) || { fast=$tmp/fast && mkdir "$fast"; }
trap 'rm -rf "$tmp" "$fast"' EXIT
"${CC:-cc}" -shared -fPIC -o "$tmp/kill_at.so" "$SOURCE_DIR/tests/support/kill_at.c" -ldl || exit 1
for i in 1 2; do python3 "$SOURCE_DIR/tests/support/tiny_gguf.py" "$tmp/m$i.gguf" "$i" 2000 || exit 1; done
printf 'FROM m1.gguf\nSYSTEM one\n' >"$tmp/one"
printf 'FROM m2.gguf\nSYSTEM two\nPARAMETER stop x\nLICENSE l\n' >"$tmp/two"
printf 'FROM base\nSYSTEM three\nMESSAGE user hi\n' >"$tmp/three"
cat >"$tmp/kill.py" <<'PYTHON'
import json, os, random, re, shutil, subprocess, sys

program, tmp, fast = os.environ["PERIGEE"], os.environ["tmp"], os.environ["fast"]
data, golden = os.path.join(fast, "data"), os.path.join(fast, "golden")
seed = int(os.environ.get("PERI_SEED", "1"))
n_kill = 200 if os.environ.get("PERI_LONG") else 25
store = os.path.join(data, "perigee", "models")
plain = dict(os.environ, XDG_DATA_HOME=data)
armed = dict(plain, LD_PRELOAD=os.path.join(tmp, "kill_at.so"))
if os.environ.get("SANITIZE"):
    armed["ASAN_OPTIONS"] = armed.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
random.seed(seed)
failures = []


def run(words, env=plain):
    return subprocess.run([program] + words, env=env, cwd=tmp, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def models():
    """name -> digest, and whether all is well."""
    r = run(["list", "--verify", "--json"])
    listed = json.loads(r.stdout) if r.stdout else {"models": [], "problems": ["no list"]}
    is_well = r.returncode == 0 and not listed["problems"] and all(m["state"] == "ok" for m in listed["models"])
    return {m["name"]: m["digest"] for m in listed["models"]}, is_well, r.stderr


def leftovers():
    """Files of the store that no manifest names, and drafts."""
    named, there = set(), set()
    for folder, _, files in os.walk(os.path.join(store, "manifests")):
        for name in files:
            with open(os.path.join(folder, name)) as f:
                named |= {"sha256-" + d for d in re.findall(r"sha256:(\w+)", f.read())}
            if name.startswith("."):
                there.add(name)
    return sorted((there | set(os.listdir(os.path.join(store, "blobs")))) - named)


# name: the command, the models before (as commands), the models after, those that must be there whatever happens
A, B = "base:latest", "other:latest"
PLANS = {
    "create": (["create", "new", "-f", "two"], {A, B, "new:latest"}, {A, B}),
    "replace": (["create", "other", "-f", "two"], {A, B}, {A, B}),
    "from": (["create", "new", "-f", "three"], {A, B, "new:latest"}, {A, B}),
    "cp": (["cp", "base", "team/copy:v1"], {A, B, "team/copy:v1"}, {A, B}),
    "rm": (["rm", "other"], {A}, {A}),
    "first": (["create", "base", "-f", "one"], {A}, set()),
}
for words in (["create", "base", "-f", "one"], ["create", "other", "-f", "three"]):
    r = run(words)
    if r.returncode:
        sys.exit("making the store: " + r.stderr)
before_digests = models()[0]
shutil.move(data, golden)


def fresh(plan):
    shutil.rmtree(data, ignore_errors=True)
    if plan != "first":
        shutil.copytree(golden, data)


def count(plan):
    fresh(plan)
    log = os.path.join(tmp, "count")
    r = run(PLANS[plan][0], dict(armed, KILL_AT="0", KILL_LOG=log))
    if r.returncode:
        sys.exit(f"{plan}: {r.stderr}")
    with open(log) as f:
        return int(f.read())


def check(what, after, kept, plan):
    found, is_well, said = models()
    if not is_well:
        failures.append(f"{what}: the list does not verify: {said}")
    if not kept <= set(found):
        failures.append(f"{what}: lost {kept - set(found)}")
    for name in kept & {A, B} if plan != "replace" else {A}:
        if found.get(name) not in (None, before_digests[name]) and plan != "first":
            failures.append(f"{what}: {name} changed")
    r = run(PLANS[plan][0])
    found, is_well, said = models()
    is_done = plan == "rm" and r.returncode == 1 and B not in found  # it was removed before the kill
    if r.returncode and not is_done:
        failures.append(f"{what}: again: {r.stderr}")
    if set(found) != after or not is_well:
        failures.append(f"{what}: again: found {sorted(found)}, expected {sorted(after)}; {said}")
    if is_done:  # then the next one that writes cleans up
        run(["cp", "base", "base"])
    if leftovers():
        failures.append(f"{what}: left over: {leftovers()}")


n_call = {plan: count(plan) for plan in PLANS}
print(f"seed {seed}, {n_kill} kills; changes of files: {n_call}")
if min(n_call.values()) < 5:
    sys.exit("the commands change too few files: is the program preloaded at all?")
n_killed = 0
for i in range(n_kill):
    plan = random.choice(sorted(PLANS))
    at, how = random.randint(1, n_call[plan]), random.choice(["before", "after", "torn"])
    fresh(plan)
    r = run(PLANS[plan][0], dict(armed, KILL_AT=str(at), KILL_HOW=how))
    n_killed += r.returncode == -9
    check(f"kill {i}: {plan}, {how} call {at} of {n_call[plan]}", PLANS[plan][1], PLANS[plan][2], plan)
print(f"{n_killed} of {n_kill} processes were killed")
if n_killed < n_kill * 9 // 10:
    failures.append(f"only {n_killed} of {n_kill} processes were killed")
print("\n".join(failures))
sys.exit(1 if failures else 0)
PYTHON
n_check=$((n_check + 1))
tmp=$tmp fast=$fast python3 "$tmp/kill.py" || fail "killed commands (above)"

# Writers beside one another: all succeed, one after the other, and the store is whole.
export XDG_DATA_HOME=$fast/data2
cd "$tmp" || exit 1
pids=()
for i in 1 2 3 4; do
    "$PERIGEE" create "p$i" -f one --quiet & pids+=($!)
    "$PERIGEE" create "q$i" -f two --quiet & pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || fail "a writer beside others failed"; done
run list --verify
is "$(grep -c ' ok$' "$tmp/out")" 8
"$PERIGEE" rm p1 p2 --quiet & first=$!
"$PERIGEE" rm p3 p4 --quiet & second=$!
"$PERIGEE" create r -f one --quiet & third=$!
for pid in $first $second $third; do wait "$pid" || fail "a writer beside others failed"; done
run list --verify
is "$(grep -c ' ok$' "$tmp/out")" 5
finish
