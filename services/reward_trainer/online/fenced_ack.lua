-- Acknowledge entries and take them out of the stream, for the trainer that holds the lease.
--
-- KEYS[1]  the stream
-- KEYS[2]  the largest token that was given
-- ARGV[1]  the trainer's token
-- ARGV[2]  its consumer group
-- ARGV[3]  the lowest id that stays
-- ARGV[4...]  ids to acknowledge
--
-- Returns "done", or "fenced" or, where Redis has lost the token, "lost", with nothing
-- done. Acknowledged entries count in a stream's length
-- until they are trimmed.

local largest = redis.call("GET", KEYS[2])
if largest ~= ARGV[1] then
  return largest and "fenced" or "lost"
end
if redis.call("EXISTS", KEYS[1]) == 0 then
  return "done"
end
for index = 4, #ARGV do
  redis.call("XACK", KEYS[1], ARGV[2], ARGV[index])
end
redis.call("XTRIM", KEYS[1], "MINID", ARGV[3])
return "done"
