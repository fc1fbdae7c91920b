-- Put entries into the dead letter, for the trainer that holds the lease.
--
-- KEYS[1]  the dead letter: a hash of stream id to {"reason", "data"} as JSON
-- KEYS[2]  the largest token that was given
-- ARGV[1]  the trainer's token
-- ARGV[2]  most letters
-- ARGV[3...]  id, reason and data of each entry, in turn
--
-- Returns "done", or "fenced" or, where Redis has lost the token, "lost", with nothing
-- done. An entry that is there stays as it is. Beyond `most`, the oldest letters are deleted, a
-- tenth of them at once since their order is dear, and counted in the key `KEYS[1]:forgotten`.

local largest = redis.call("GET", KEYS[2])
if largest ~= ARGV[1] then
  return largest and "fenced" or "lost"
end
for index = 3, #ARGV, 3 do
  local letter = {reason = ARGV[index + 1], data = ARGV[index + 2]}
  redis.call("HSETNX", KEYS[1], ARGV[index], cjson.encode(letter))
end
local most, found = tonumber(ARGV[2]), redis.call("HLEN", KEYS[1])
if found <= most then
  return "done"
end
local letters = {}
for _, id in ipairs(redis.call("HKEYS", KEYS[1])) do
  local time, sequence = string.match(id, "^(%d+)-(%d+)$")
  table.insert(letters, {id = id, time = tonumber(time) or 0, sequence = tonumber(sequence) or 0})
end
table.sort(letters, function(a, b)
  if a.time ~= b.time then
    return a.time < b.time
  end
  return a.sequence < b.sequence
end)
local forgotten = found - math.floor(most * 0.9)
for index = 1, forgotten do
  redis.call("HDEL", KEYS[1], letters[index].id)
end
redis.call("INCRBY", KEYS[1] .. ":forgotten", forgotten)
return "done"
