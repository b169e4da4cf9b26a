-- Record slots of a schedule's entries and add their tasks.
-- KEYS: schedule, slots, then those of push
-- ARGV: number of slots, for each its entry and time in µs, then those of push for as many tasks
-- Returns: for each "taken" when it is over or its entry is not registered, or 1 or 0 as push; or the error of its
--          queue, which has not been touched

local count = tonumber(ARGV[1])
local pushed = 2 * count + 1

-- A push that failed half-way would leave slots without their tasks.
local spoilt = {}
redis.call('SCARD', KEYS[3])
for queue = 1, tonumber(ARGV[pushed + 1]) do
  for i, look in ipairs({'LLEN', 'ZCARD', 'LLEN'}) do
    local answer = redis.pcall(look, KEYS[3 * queue + i])
    if type(answer) == 'table' and answer.err then
      if not string.find(answer.err, 'WRONGTYPE', 1, true) then
        return answer
      end
      spoilt[queue] = answer.err
    end
  end
end

local settled = {}
for i = 1, count do
  local entry, slot = ARGV[2 * i], ARGV[2 * i + 1]
  local queue = tonumber(ARGV[pushed + 1 + tonumber(ARGV[pushed + 1]) + 7 * (i - 1) + 1])
  local since = string.match(redis.call('HGET', KEYS[1], entry) or '', '^%d+')
  local last = redis.call('HGET', KEYS[2], entry)
  if not since or tonumber(slot) <= tonumber(since) or last and tonumber(slot) <= tonumber(last) then
    settled[i] = 'taken'
  elseif spoilt[queue] then
    settled[i] = spoilt[queue]
  else
    redis.call('HSET', KEYS[2], entry, slot)
  end
end
return push(2, pushed, settled)
