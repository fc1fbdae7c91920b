-- Put entries into the dead letter, for the trainer that holds the lease.
--
-- KEYS[1]  the dead letter: a hash of stream id to {"reason", "data"} as JSON
-- KEYS[2]  the largest token that was given
-- ARGV[1]  the trainer's token
-- ARGV[2]  beyond so many letters, data is left out
-- ARGV[3...]  id, reason and data of each entry, in turn
--
-- Returns "done", or "fenced" or, where Redis has lost the token, "lost", with nothing
-- done. An entry that is there stays as it is.

local largest = redis.call("GET", KEYS[2])
if largest ~= ARGV[1] then
  return largest and "fenced" or "lost"
end
for index = 3, #ARGV, 3 do
  local letter = {reason = ARGV[index + 1]}
  if redis.call("HLEN", KEYS[1]) < tonumber(ARGV[2]) then
    letter.data = ARGV[index + 2]
  end
  redis.call("HSETNX", KEYS[1], ARGV[index], cjson.encode(letter))
end
return "done"
