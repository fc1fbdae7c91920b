-- Have the consumer group read on from a checkpoint, for the trainer that holds the lease.
--
-- KEYS[1]  the stream, made if it is not there
-- KEYS[2]  the largest token that was given
-- ARGV[1]  the trainer's token
-- ARGV[2]  the consumer group
-- ARGV[3]  last id that the checkpoint covers
--
-- Returns "done", or "fenced" or, where Redis has lost the token, "lost", with nothing
-- done. The group is made anew, so that no entry of an
-- earlier trainer is left pending.

local largest = redis.call("GET", KEYS[2])
if largest ~= ARGV[1] then
  return largest and "fenced" or "lost"
end
if redis.call("EXISTS", KEYS[1]) == 1 then
  redis.call("XGROUP", "DESTROY", KEYS[1], ARGV[2])
end
redis.call("XGROUP", "CREATE", KEYS[1], ARGV[2], ARGV[3], "MKSTREAM")
return "done"
