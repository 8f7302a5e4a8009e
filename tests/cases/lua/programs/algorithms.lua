-- SPDX-License-Identifier: MIT
local function sieve(n)
  local composite, primes = {}, {}
  for i = 2, n do
    if not composite[i] then
      primes[#primes + 1] = i
      for k = i * i, n, i do composite[k] = true end
    end
  end
  return primes
end
print(table.concat(sieve(60), " "))
local function queens(n)
  local count, cols, d1, d2 = 0, {}, {}, {}
  local function place(r)
    if r > n then count = count + 1 return end
    for c = 1, n do
      if not (cols[c] or d1[r + c] or d2[r - c]) then
        cols[c], d1[r + c], d2[r - c] = true, true, true
        place(r + 1)
        cols[c], d1[r + c], d2[r - c] = nil, nil, nil
      end
    end
  end
  place(1)
  return count
end
print(queens(6))
local function permutations(t, n)
  return coroutine.wrap(function()
    local function go(k)
      if k == 0 then coroutine.yield(table.concat(t)) return end
      for i = 1, k do
        t[i], t[k] = t[k], t[i]
        go(k - 1)
        t[i], t[k] = t[k], t[i]
      end
    end
    go(n)
  end)
end
for p in permutations({ "a", "b", "c" }, 3) do print(p) end
local counts = {}
for w in ("the cat and the dog and the bird"):gmatch("%a+") do counts[w] = (counts[w] or 0) + 1 end
local keys = {}
for k in pairs(counts) do keys[#keys + 1] = k end
table.sort(keys, function(a, b) return counts[a] > counts[b] or counts[a] == counts[b] and a < b end)
for _, k in ipairs(keys) do print(k, counts[k]) end
print(string.format("%.10f", math.sin(1)), math.floor(-2.5), math.ceil(2.1), math.fmod(7, 3), math.tointeger(3.0), math.max(1, 5, 3))
