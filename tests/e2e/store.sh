# SPDX-License-Identifier: MIT
# The model store: create, list, show, cp, rm, names wherever a model is taken, stores of other programs, damage, full disks.
. "$(dirname "$0")/harness.sh"
need_demo
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
export HOME=$tmp/home XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state
unset OLLAMA_MODELS HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE
mkdir "$HOME" "$tmp/in" && cd "$tmp/in" || exit 1
cp "$demo" demo.gguf
store=$XDG_DATA_HOME/perigee/models
gguf() { python3 "$SOURCE_DIR/tests/support/tiny_gguf.py" "$@"; }
n_blob() { find "$store/blobs" -type f | wc -l; }

# Nothing there yet; asking makes no store.
run list
is "$out" "NAME    ID    SIZE    MODIFIED    SOURCE"
run 1 rm nobody
has "$err" "there is no model 'nobody'; perigee list shows the models there are"
run 1 cp nobody other
run 1 create ada
has "$err" "Modelfile: cannot open: No such file or directory"
[ ! -e "$XDG_DATA_HOME/perigee/models" ] || fail "a store was made without need"

# create, and the model under its name everywhere.
cat >Modelfile <<'END'
FROM ./demo.gguf
PARAMETER temperature 0
PARAMETER stop "### User: "
PARAMETER stop <|x|>
SYSTEM """You are Ada, a helpful assistant."""
LICENSE """MIT
for "all" of it"""
MESSAGE user Hi
MESSAGE assistant Hello!
REQUIRES 0.14.0
END
run run Modelfile "What is your name?"
answer=$out
run create ada
has "$err" "created ada:latest: 5.1 MB, id "
run run ada "What is your name?"
is "$out" "$answer"
is "$err" ""
run run ADA:Latest "What is your name?"
is "$out" "$answer"
run list
has "$out" "ada:latest"
has "$out" "5.1 MB"
has "$out" "perigee"
run list --json
python3 - "$store" "$tmp/out" <<'PYTHON' || fail "list --json"
import hashlib, json, os, sys
with open(sys.argv[2]) as f:
    m, = json.load(f)["models"]
assert m["name"] == "ada:latest" and m["source"] == "perigee" and m["store"] == sys.argv[1], m
with open(m["file"], "rb") as f:
    text = f.read()
assert hashlib.sha256(text).hexdigest() == m["digest"]
manifest = json.loads(text)
assert manifest["schemaVersion"] == 2
assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
size, found = 0, {}
for layer in manifest["layers"] + [manifest["config"]]:
    with open(os.path.join(sys.argv[1], "blobs", layer["digest"].replace(":", "-")), "rb") as f:
        data = f.read()
    assert "sha256:" + hashlib.sha256(data).hexdigest() == layer["digest"] and len(data) == layer["size"], layer
    size += len(data)
    found[layer["mediaType"].rsplit(".", 1)[-1]] = data
assert size == m["size"]
assert found["system"] == b"You are Ada, a helpful assistant."
assert found["license"] == b'MIT\nfor "all" of it'
assert json.loads(found["params"]) == {"temperature": 0, "stop": ["### User: ", "<|x|>"]}
assert json.loads(found["messages"]) == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
with open("demo.gguf", "rb") as f:
    assert found["model"] == f.read()
config = json.loads(found["v1+json"])
assert config["model_format"] == "gguf" and config["model_family"] == "llama", config
assert config["requires"] == "0.14.0" and config["model_type"].endswith("M"), config
assert "template" not in found
assert os.stat(m["file"]).st_mode & 0o777 == 0o644
PYTHON

# show: all parts, and what is printed is the same again.
run show ada --modelfile
cp "$tmp/out" printed
has "$out" "FROM $store/blobs/sha256-"
has "$out" 'LICENSE """MIT'
run show printed --modelfile
cmp -s "$tmp/out" printed || fail "printing what was printed gave another text"
run create again -f printed
run show again --modelfile
cmp -s "$tmp/out" printed || fail "what was created from the printed file prints another text"
run list --json
is "$(grep -c "$(grep -m 1 -o '"digest": "[0-9a-f]*"' "$tmp/out")" "$tmp/out")" 2
run rm again
run show ada
has "$out" "messages       2"
run show ada --system
is "$out" "You are Ada, a helpful assistant."
run show ada --parameters
has "$out" "temp                0                       ada:latest"
run show ada --template
has "$out" "messages"
run show ada --tensors
has "$out" "token_embd.weight"
run show ada --metadata
has "$out" "general.architecture"
run show ada --arch
has "$out" "architecture"
run show ada --system --json
has "$out" '"system": "You are Ada'

# The commands that take a model.
run tokenize -m demo.gguf --no-special </dev/null
plain=$("$PERIGEE" tokenize -m demo.gguf <<<"Hello there")
is "$("$PERIGEE" tokenize -m ada <<<"Hello there")" "$plain"
is "$("$PERIGEE" detokenize -m ada:latest <<<"$plain")" "Hello there"
run run demo.gguf --raw --greedy -n 5 Once
raw=$out
run run ada --raw --greedy -n 5 Once
is "$out" "$raw"
run explain ada
has "$out" "device"
run logits -m ada --tokens 1,2,3 -o a.bin
run logits -m demo.gguf --tokens 1,2,3 -o b.bin
cmp -s a.bin b.bin || fail "logits by name differ"
run bench -m ada -p 8 -n 2 -r 1 --json
has "$out" '"pp_tps"'
echo '[{"role": "user", "content": "Hi"}]' >m.json
run render ada --messages m.json
has "$out" "You are Ada, a helpful assistant.<|end|><|user|>Hi<|end|><|assistant|>"
echo 'return { from = "ada", system = "Your name is Bob." }' >bob.lua
run run bob.lua "What is your name?"
has "$out" "Bob"
run show bob.lua --parameters
has "$out" "ada:latest"
echo 'local m <close> = assert(require("perigee").model("ADA")) print(#m:tokenize("Hello there"))' >m.lua
run run m.lua
is "$out" "$(printf 'Hello there' | "$PERIGEE" tokenize -m ada | wc -w)"
echo 'print(require("perigee").model("adaa"))' >m.lua
run run m.lua
has "$out" "did you mean 'ada:latest'?"

# FROM a name: what the Modelfile does not say is taken over, and no file is stored twice.
before=$(n_blob)
printf 'FROM ada\nSYSTEM Your name is Bob.\nPARAMETER stop zzz\nMESSAGE user Yo\n' >Bob
run show Bob --modelfile
is "$out" "FROM ada:latest
SYSTEM Your name is Bob.
PARAMETER stop zzz
MESSAGE user Yo"
run create team/bob:v2 --file Bob --quiet
is "$err" ""
run run team/bob:v2 "What is your name?"
has "$out" "Bob"
is "$(n_blob)" $((before + 4))
run show team/bob:v2 --modelfile
is "$(sed 1d "$tmp/out")" 'SYSTEM Your name is Bob.
PARAMETER temperature 0
PARAMETER stop zzz
MESSAGE user Yo
LICENSE """MIT
for "all" of it"""
REQUIRES 0.14.0'

# cp and rm; blobs go with their last model.
run cp team/bob:v2 Copy
run show copy --system
is "$out" "Your name is Bob."
run 1 rm copy nobody
run list
has "$out" "Copy:latest"
run rm copy team/bob:v2
has "$err" "removed team/bob:v2"
is "$(n_blob)" "$before"
[ ! -e "$store/manifests/registry.ollama.ai/team" ] || fail "an empty folder is left"
run list --verify
has "$out" " ok"

# A word that is a file and a name; names that are nearly one; names that are none.
cp demo.gguf ada
for command in "run ada hi" "show ada" "tokenize -m ada" "explain ada" "render ada --messages m.json"; do
    run 1 $command
    has "$err" "'ada' is a file here, and a model, ada:latest in"
    has "$err" "write ./ada for the file, ada:latest for the model"
done
run run ./ada --raw --greedy -n 5 Once
is "$out" "$raw"
printf 'FROM ada\n' >m
run 1 run m hi
has "$err" "m:1:6: FROM ada: there is ada, and the model ada:latest in"
run 1 run bob.lua hi
has "$err" "'ada' is a file here, and a model"
rm ada
run 1 run adda hi
has "$err" "there is no file 'adda' here, no assistant of that name and no model of that name; did you mean 'ada:latest'?"
run 1 bench -m demo
has "$err" "did you mean 'demo.gguf'?"
printf 'FROM aad\n' >m
run 1 create x -f m
has "$err" "m:1:6: FROM aad: there is no file aad; there is no model 'aad'; did you mean 'ada:latest'?"
run 1 create ../x
has "$err" 'the name "../x": its namespace is "..", expected a letter, a digit or _ first'
run 1 run a/b/c/d hi
has "$err" "found 4 parts between slashes"
mkdir -p "$XDG_DATA_HOME/perigee/assistants"
printf 'return { from = "ada", system = "Your name is Bob." }\n' >"$XDG_DATA_HOME/perigee/assistants/bob.lua"
run run bob "What is your name?"
has "$out" "Bob"
run cp ada bob
for command in "run bob hi" "show bob" "render bob --messages m.json"; do
    run 1 $command
    has "$err" "'bob' is the assistant $XDG_DATA_HOME/perigee/assistants/bob.lua, and a model, bob:latest in"
done
run show bob:latest --system
is "$out" "You are Ada, a helpful assistant."
echo 'return { from = "bob" }' >on_bob.lua
run 1 run on_bob.lua hi
has "$err" "'bob' is the assistant"
run rm bob
run run on_bob.lua "What is your name?"
has "$out" "Bob"
rm -r "$XDG_DATA_HOME/perigee/assistants"
run cp ada qwen3
run 1 show qwen3 --arch
has "$err" "'qwen3' is an architecture, and a model in a store"
run show qwen3:latest --arch
run rm qwen3
run show --arch qwen3
run 2 create
run 2 cp one
run 2 rm
run 1 create x -q Q4_K_M
has "$err" "quantizing is not available yet"

# Every parameter of sampling is kept.
{
    echo "FROM demo.gguf"
    sed -n 's/^PERI_SAMPLING_PARAM(\([a-z_]*\), \([A-Z]*\),.*/\1 \2/p' "$SOURCE_DIR/core/run/sampling.def" |
        while read -r name kind; do
            case $kind in REAL) v=0.5 ;; INT) v=2 ;; *) v=true ;; esac
            echo "PARAMETER $name $v"
        done
} >all.mf
is "$(($(grep -c PARAMETER all.mf) > 20))" 1
run create all -f all.mf
run show all --modelfile
is "$(grep PARAMETER "$tmp/out" | sed 's/ temperature / temp /' | sort)" "$(grep PARAMETER all.mf | sort)"
run rm all

# What is kept and cannot be used.
gguf lora.gguf 3
gguf draft.gguf 4
cat >odd.mf <<'END'
FROM demo.gguf
ADAPTER lora.gguf
DRAFT draft.gguf
TEMPLATE """{{ .Prompt }}"""
RENDERER poolside-v1
GRAMMAR """root ::= "a"
"""
MCP files stdio mcp-files
END
run create odd -f odd.mf
has "$err" "odd.mf:5:10: RENDERER poolside-v1: this version has no such format"
has "$err" "cannot be used yet: odd.mf:8:5: MCP: MCP servers are not in this version"
run show odd --modelfile
has "$out" "ADAPTER $store/blobs/sha256-$(sha256sum lora.gguf | cut -d' ' -f1)"
has "$out" "DRAFT $store/blobs/sha256-$(sha256sum draft.gguf | cut -d' ' -f1)"
has "$out" "TEMPLATE {{ .Prompt }}"
has "$out" "RENDERER poolside-v1"
has "$out" 'GRAMMAR """root ::= "a"'
has "$out" "MCP files stdio mcp-files"
cp "$tmp/out" printed
run show printed --modelfile
cmp -s "$tmp/out" printed || fail "printing the odd model gave another text"
run 1 run odd hi
has "$err" "odd:latest: RENDERER poolside-v1: this version has no such format"
printf 'FROM demo.gguf\nADAPTER lora.gguf\n' >m
run create odd -f m
run 1 run odd hi
has "$err" "odd:latest: ADAPTER $store/blobs/"
printf 'FROM demo.gguf\nMCP x\n' >m
run create odd -f m
run 1 run odd hi
has "$err" "odd:latest: MCP: MCP servers are not in this version"
printf 'FROM demo.gguf\nDRAFT nowhere.gguf\n' >m
run 1 create odd -f m
has "$err" "DRAFT: "
has "$err" "nowhere.gguf: cannot open: No such file"
echo 'return {}' >t.lua
printf 'FROM demo.gguf\nTOOL t.lua\n' >m
run 1 create odd -f m
has "$err" "m:2:6: TOOL: a store holds no scripts"
head -c 100000 demo.gguf >cut.gguf
printf 'FROM cut.gguf\n' >m
run 1 create odd -f m
has "$err" "cut.gguf: tensor"
run rm odd
run list --verify
is "$(grep -c ' ok$' "$tmp/out")" 1

# Damage is told, with file and digest; creating the model again heals it.
blob=$store/blobs/sha256-$(sha256sum demo.gguf | cut -d' ' -f1)
printf 'xxxx' | dd of="$blob" bs=1 seek=70000 conv=notrunc 2>/dev/null
run 1 list --verify
has "$out" "damaged"
has "$err" "$blob: found the SHA-256 "
run create ada
run list --verify
truncate -s 1000 "$blob"
run 1 list --verify
has "$err" "ada/latest: layers[0]: found 1000 bytes in $blob, expected a file of $(stat -c %s demo.gguf) bytes"
run 1 run ada hi
has "$err" "layers[0]: found 1000 bytes"
rm "$blob"
run 1 run ada hi
has "$err" "layers[0]: $blob: cannot look at it: No such file or directory"
run create ada
run list --verify

# Ollama's store and the cache of Hugging Face are read where they lie.
mkdir -p "$HOME/.ollama"
cp -r "$store" "$HOME/.ollama/models"
mv "$HOME/.ollama/models/manifests/registry.ollama.ai/library/ada" "$HOME/.ollama/models/manifests/registry.ollama.ai/library/olla"
hub=$tmp/cache/huggingface/hub/models--org--tiny-GGUF
mkdir -p "$hub/blobs" "$hub/snapshots/0123abc" "$hub/refs"
printf 0123abc >"$hub/refs/main"
for q in Q4_K_M Q8_0; do
    gguf f.gguf "$(printf %d "'$q")" && digest=$(sha256sum f.gguf | cut -d' ' -f1)
    [ $q = Q8_0 ] && cp demo.gguf f.gguf && digest=$(sha256sum f.gguf | cut -d' ' -f1)
    mv f.gguf "$hub/blobs/$digest" && ln -s "../../blobs/$digest" "$hub/snapshots/0123abc/tiny-$q.gguf"
done
ln -s ../../blobs/gone "$hub/snapshots/0123abc/mmproj-tiny.gguf"
find "$HOME/.ollama" "$hub" -printf '%p %s %T@\n' | sort >"$tmp/foreign"
run list
has "$out" "ollama ~/.ollama/models"
has "$out" "hf.co/org/tiny-GGUF:Q4_K_M"
has "$out" "hugging face $tmp/cache/huggingface/hub"
is "$err" ""
run list olla
is "$(wc -l <"$tmp/out")" 2
run list --verify
is "$(grep -c ' ok$' "$tmp/out")" 4
run run olla "What is your name?"
is "$out" "$answer"
run run hf.co/org/tiny-GGUF:Q8_0 --raw --greedy -n 5 Once
is "$out" "$raw"
run run org/tiny-gguf:q8_0 --raw --greedy -n 5 Once
is "$out" "$raw"
run show org/tiny-GGUF --modelfile
has "$out" "FROM $hub/blobs/"
run 1 run org/tiny-GGUF:Q2_K hi
has "$err" "did you mean"
printf 'FROM hf.co/org/tiny-GGUF:Q8_0\nSYSTEM You are Ada, a helpful assistant.\nPARAMETER temperature 0\n' >m
run run m "What is your name?"
is "$out" "$answer"
run create fromhub -f m
run cp olla mine
run cp hf.co/org/tiny-GGUF:Q4_K_M tiny
run 1 rm olla
has "$err" "olla:latest lies in ~/.ollama/models, which is never written here"
run list --verify
find "$HOME/.ollama" "$hub" -printf '%p %s %T@\n' | sort | cmp -s - "$tmp/foreign" || fail "a foreign store was changed"
cmp -s "$store/manifests/registry.ollama.ai/library/mine/latest" "$HOME/.ollama/models/manifests/registry.ollama.ai/library/olla/latest" ||
    fail "a copied manifest is another"
OLLAMA_MODELS=$HOME/.ollama/models HF_HUB_CACHE=$(dirname "$hub") run list
is "$(grep -c olla: "$tmp/out")" 1
run rm fromhub mine tiny
rm -r "$HOME/.ollama" "$tmp/cache/huggingface"

# Full disks and limits: an error that says so, and nothing is left.
gguf big.gguf 9 4000
printf 'FROM big.gguf\n' >m
cp -r "$store" "$tmp/whole"
(
    ulimit -f 64
    n_failed=0
    run 1 create big -f m
    has "$err" "no room in $store/blobs for "
    has "$err" "File too large"
    [ "$n_failed" -eq 0 ]
) || fail "a limit on the size of files"
diff -r "$store" "$tmp/whole" || fail "a failed create left something"
if mkdir "$tmp/small" && mount -t tmpfs -o size=200k none "$tmp/small" 2>/dev/null; then
    XDG_DATA_HOME=$tmp/small run 1 create big -f m
    has "$err" "no room in $tmp/small/perigee/models/blobs for "
    has "$err" "No space left on device"
    is "$(find "$tmp/small/perigee/models" -type f ! -name perigee.lock | wc -l)" 0
    umount "$tmp/small"
fi
chmod 500 "$store/blobs"
[ "$(id -u)" -eq 0 ] || { run 1 create big -f m; has "$err" "Permission denied"; }
chmod 700 "$store/blobs"

# What strangers put into a store: told with file and key, and never followed out of it.
side=$tmp/side
mkdir "$side" && echo secret >"$side/secret"
other=$HOME/.ollama/models
python3 - "$other" "$side" <<'PYTHON'
import hashlib, json, os, sys
store, side = sys.argv[1:]
os.makedirs(store + "/blobs")


def blob(data, digest=None):
    digest = digest or hashlib.sha256(data).hexdigest()
    with open(f"{store}/blobs/sha256-{digest}", "wb") as f:
        f.write(data)
    return {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "sha256:" + digest, "size": len(data)}


def layer(kind, data, **more):
    return dict(blob(data), mediaType="application/vnd.ollama.image." + kind, **more)


def model(name, layers, config=None, text=None):
    path = f"{store}/manifests/registry.ollama.ai/library/{name}/latest"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text or json.dumps({"schemaVersion": 2, "config": config or blob(b"{}"), "layers": layers}))
    return path


with open("demo.gguf", "rb") as f:
    good = layer("model", f.read())
model("good", [good])
model("traversal", [dict(good, digest="sha256:../../../../../../etc/passwd")])
model("lies", [dict(good, size=12)])
model("missing", [dict(good, digest="sha256:" + "0" * 64)])
model("huge", [], text="[" * (2 << 20))
model("deep", [], text='{"a":' * 200 + "1" + "}" * 200)
model("types", [], text=json.dumps({"schemaVersion": 2, "config": 7, "layers": []}))
model("empty", [])
model("tensors", [layer("tensor", b"x")])
model("remote", [good], blob(json.dumps({"remote_host": "https://example.com", "remote_model": "m"}).encode()))
model("badparams", [good, layer("params", b'{"stop":{}}')])
model("unknownparam", [good, layer("params", b'{"temprature":1}')])
model("binary", [good, layer("system", b"\xff\xfe")])
model("vision", [good, layer("projector", b"GGUF")])
# A blob that is a link out of the store, and a whole folder that is one.
linked = hashlib.sha256(b"link").hexdigest()
os.symlink(side + "/secret", f"{store}/blobs/sha256-{linked}")
model("linked", [good, dict(good, mediaType="application/vnd.ollama.image.system", digest="sha256:" + linked, size=7)])
os.symlink(side, f"{store}/manifests/registry.ollama.ai/outside")
os.makedirs(f"{store}/manifests/registry.ollama.ai/library/loop")
os.symlink("latest", f"{store}/manifests/registry.ollama.ai/library/loop/latest")
os.makedirs(f"{store}/manifests/a.b/-x/y")
with open(f"{store}/manifests/a.b/-x/y/z", "w") as f:
    f.write("{}")
PYTHON
at=$other/manifests/registry.ollama.ai/library
run list
has "$out" "good:latest"
for said in "traversal/latest: layers[0].digest: found the string" "huge/latest: found 2097152 bytes, expected at most 1048576" \
    "deep/latest: " "types/latest: config: found the number 7, expected an object" "loop/latest: found a link, expected a file"; do
    has "$err" "warning: $at/$said"
done
has "$err" "manifests/registry.ollama.ai/outside: found a link, expected a folder"
has "$err" 'its namespace is "-x", expected a letter'
run 1 list --verify
has "$out" "good:latest"
# refused NAME TEXT: running and storing it fail with this
refused() {
    run 1 run "$1" hi
    has "$err" "$2"
    printf 'FROM %s\n' "$1" >m
    run 1 create stolen -f m
    has "$err" "$2"
}
refused traversal "$at/traversal/latest: layers[0].digest: found the string \"sha256:../../../../../../etc/passwd\", expected sha256: and 64"
refused lies "$at/lies/latest: layers[0]: found "
refused missing "$at/missing/latest: layers[0]: $other/blobs/sha256-0000"
refused types "types/latest: config: found the number 7"
refused empty "empty/latest: found no layer with a model"
refused tensors "tensors/latest: found safetensors, expected a GGUF file"
refused remote "remote:latest is a model on another machine (https://example.com)"
refused badparams "badparams/latest: layers[1] (blobs/sha256-"
refused binary "found bytes that are no UTF-8, expected text"
refused linked "a link in it leaves the folder $other"
refused vision "FROM is given 2 times"
refused unknownparam "temprature: unknown parameter; did you mean temperature?"
printf '%s' "$out$err" | grep -q secret && fail "a link was followed"
run 1 cp linked stolen
run 1 cp lies stolen
run list stolen
is "$(wc -l <"$tmp/out")" 1
rm -r "$other"
run list --verify ada
has "$out" " ok"

# Our own store with links out of it: nothing is written through them.
run cp ada keep
mv "$store/manifests/registry.ollama.ai" "$tmp/registry" && ln -s "$tmp/registry" "$store/manifests/registry.ollama.ai"
run 1 create new -f Modelfile
has "$err" "a link in it leaves the folder $store"
rm "$store/manifests/registry.ollama.ai" && mv "$tmp/registry" "$store/manifests/registry.ollama.ai"
mv "$store/blobs" "$tmp/blobs" && ln -s "$side" "$store/blobs"
run 1 create new -f Bob
run 1 list --verify ada
is "$(ls "$side")" secret
rm "$store/blobs" && mv "$tmp/blobs" "$store/blobs"
run list --verify ada

# A manifest that cannot be read keeps all blobs, and can be removed by its name.
echo '{' >"$store/manifests/registry.ollama.ai/library/keep/latest"
before=$(n_blob)
run rm ada
has "$err" "keep/latest: line "
has "$err" "so no blobs are removed"
is "$(n_blob)" "$before"
run rm keep
is "$(n_blob)" 0
finish
