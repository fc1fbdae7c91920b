-- Lease a version until a time by Redis's own clock; a lease that lasts longer stays.
--
-- KEYS[1]  the leases: a sorted set of versions by the Unix second of their end
-- ARGV[1]  the version
-- ARGV[2]  seconds from now

local time = redis.call("TIME")
local now = time[1] + time[2] / 1000000
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now)
redis.call("ZADD", KEYS[1], "GT", string.format("%.6f", now + ARGV[2]), ARGV[1])
return 1
