-- Append the samples of one request to the stream: all of them, once, within the bound.
--
-- KEYS[1]  the stream
-- KEYS[2]  the record of the idempotency key: a hash of `digest`, the digest of the items, and
--          `ids`, their stream ids as a JSON list; it expires
-- ARGV[1]  most entries that the stream may hold
-- ARGV[2]  digest of the request's items
-- ARGV[3]  seconds for which the record is kept
-- ARGV[4...]  the items, one JSON text each
--
-- Returns {"stored", id...}, or {"full", entries}, or {"mismatch"} where the key was used before
-- with other items. A retried request gets the ids of the first. Both keys are read before
-- anything is written, so that a key of another type stops the script with nothing stored.

local record = redis.call("HMGET", KEYS[2], "digest", "ids")
if record[1] then
  if record[1] ~= ARGV[2] then
    return {"mismatch"}
  end
  local first = cjson.decode(record[2])
  table.insert(first, 1, "stored")
  return first
end

local count = #ARGV - 3
local entries = redis.call("XLEN", KEYS[1])
if entries + count > tonumber(ARGV[1]) then
  return {"full", tostring(entries)}
end

local reply = {"stored"}
local ids = {}
for index = 4, #ARGV do
  local id = redis.call("XADD", KEYS[1], "*", "schema", "1", "data", ARGV[index])
  ids[#ids + 1] = id
  reply[#reply + 1] = id
end
redis.call("HSET", KEYS[2], "digest", ARGV[2], "ids", cjson.encode(ids))
redis.call("EXPIRE", KEYS[2], ARGV[3])
return reply
