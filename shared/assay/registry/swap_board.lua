-- Put a board in place of another, unless somebody has changed it since.
--
-- KEYS[1]  the board, JSON with its `revision`
-- KEYS[2]  history of the promotion on the new board
-- KEYS[3]  the largest token that was given; left out = the writer needs none
-- ARGV[1]  revision of the board that was read; empty = there was none
-- ARGV[2]  the new board
-- ARGV[3]  the promotion on it; empty = none
-- ARGV[4]  seconds for which the history is kept
-- ARGV[5]  channel of the hints
-- ARGV[6]  Unix second after which it is too late; empty = it never is
-- ARGV[7]  the writer's token, with KEYS[3]
--
-- Returns "done", or "not" where the board is another by now or it is too late, or "fenced" where
-- another writer has a larger token, or "lost" where Redis has lost it. Revisions stay below 2^53,
-- so that Lua's numbers hold them.

if KEYS[3] then
  local largest = redis.call("GET", KEYS[3])
  if largest ~= ARGV[7] then
    return largest and "fenced" or "lost"
  end
end
local time = redis.call("TIME")
if ARGV[6] ~= "" and time[1] + time[2] / 1000000 > tonumber(ARGV[6]) then
  return "not"
end
local current = redis.call("GET", KEYS[1])
if current then
  if string.format("%.0f", cjson.decode(current).revision) ~= ARGV[1] then
    return "not"
  end
elseif ARGV[1] ~= "" then
  return "not"
end
redis.call("SET", KEYS[1], ARGV[2])
if ARGV[3] ~= "" then
  redis.call("SET", KEYS[2], ARGV[3], "EX", ARGV[4])
end
redis.call("PUBLISH", ARGV[5], "board")
return "done"
