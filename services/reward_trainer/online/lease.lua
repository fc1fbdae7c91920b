-- Take the lease of the trainer, renew it, or give it back.
--
-- KEYS[1]  the lease: the token of the trainer that holds it; it expires
-- KEYS[2]  the largest token that was ever given; it does not expire
-- ARGV[1]  the token of the asker, 0 if it has none
-- ARGV[2]  a token that the new one must exceed, where the largest one was lost with Redis's data
-- ARGV[3]  milliseconds until the lease expires; 0 = give it back
--
-- Returns {"held", token}, or {"taken", milliseconds} while another trainer holds it, or
-- {"fenced", token} where another one has taken it since. Tokens grow, so that whoever writes with
-- an older one can be told.

local own = tonumber(ARGV[1])
local largest = tonumber(redis.call("GET", KEYS[2]) or "0")
if ARGV[3] == "0" then
  if own == largest then
    redis.call("DEL", KEYS[1])
  end
  return {"given back", ARGV[1]}
end
if own > 0 and own == largest then
  redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[3])
  return {"held", ARGV[1]}
end
if own > 0 and largest > own then
  return {"fenced", tostring(largest)}
end
if redis.call("EXISTS", KEYS[1]) == 1 then
  return {"taken", tostring(redis.call("PTTL", KEYS[1]))}
end
local token = tostring(math.max(largest, tonumber(ARGV[2]), own) + 1)
redis.call("SET", KEYS[2], token)
redis.call("SET", KEYS[1], token, "PX", ARGV[3])
return {"held", token}
