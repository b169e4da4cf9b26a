-- Count the tasks of queues.
-- KEYS: nodes that hold
-- ARGV: prefix, queue…
-- Returns: waiting, delayed, running of each queue

-- A queue whose place something else has taken is empty, and nothing to the others.
local function count(...)
  local answer = redis.pcall(...)
  if type(answer) == 'number' then
    return answer
  end
  return string.find(answer.err, 'WRONGTYPE', 1, true) and 0 or error(answer)
end

local running = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  for _, holder in ipairs(redis.call('SMEMBERS', ARGV[1] .. ':holders:' .. node)) do
    local queue = string.match(holder, '[^:]*$')
    running[queue] = (running[queue] or 0) + redis.call('HLEN', ARGV[1] .. ':flight:' .. node .. ':' .. holder)
  end
end
local answer, time = {}, now()
for i = 2, #ARGV do
  local delayed = ARGV[1] .. ':delayed:' .. ARGV[i]
  local due = count('ZCOUNT', delayed, '-inf', time)
  local waiting = count('LLEN', ARGV[1] .. ':waiting:' .. ARGV[i])
  table.insert(answer, waiting + count('LLEN', ARGV[1] .. ':suspects:' .. ARGV[i]) + due)
  table.insert(answer, count('ZCARD', delayed) - due)
  table.insert(answer, running[ARGV[i]] or 0)
end
return answer
