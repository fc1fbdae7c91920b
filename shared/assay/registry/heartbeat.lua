-- Note what a replica does and when it was heard, by Redis's own clock; forget the long dead.
--
-- KEYS[1]  when each replica was heard: a sorted set by Unix seconds
-- KEYS[2]  what each said last: a hash of JSON
-- ARGV[1]  the replica
-- ARGV[2]  its state, JSON
-- ARGV[3]  seconds of silence after which a replica is forgotten
--
-- Returns the time.

local time = redis.call("TIME")
local now = time[1] + time[2] / 1000000
for _, dead in ipairs(redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", now - ARGV[3])) do
  redis.call("ZREM", KEYS[1], dead)
  redis.call("HDEL", KEYS[2], dead)
end
redis.call("ZADD", KEYS[1], string.format("%.6f", now), ARGV[1])
redis.call("HSET", KEYS[2], ARGV[1], ARGV[2])
return time
