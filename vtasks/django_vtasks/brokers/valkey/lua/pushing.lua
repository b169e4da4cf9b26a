-- Put before the scripts that add tasks; keys and arguments are those of push.lua, from these positions on.
-- A task of which ``settled`` says something by its number is not added, and that is the answer to it.
local function push(key0, argument0, settled)
  local queues = tonumber(ARGV[argument0 + 1])
  local answers = {}
  local touched = {}
  local time = now()
  for i = argument0 + queues + 2, #ARGV, 7 do
    local queue, entry, lane, when, lock, id, ttl = tonumber(ARGV[i]), unpack(ARGV, i + 1, i + 6)
    local answer = settled and settled[#answers + 1]
    local accepted = not answer
    if accepted and lock ~= '0' then
      local key = KEYS[key0 + 1 + 3 * queues + tonumber(lock)]
      if ttl ~= '0' then
        accepted = redis.call('SET', key, id, 'NX', 'PX', ttl)
      else
        accepted = redis.call('SET', key, id, 'NX')
      end
    end
    if accepted then
      local waiting, delayed = KEYS[key0 + 3 * queue - 1], KEYS[key0 + 3 * queue]
      if when == '' or tonumber(when) <= time then
        enqueue(waiting, lane, entry)
        touched[queue] = true
      else
        redis.call('ZADD', delayed, when, entry)
        -- An idle claim must learn of a time that is earlier than the one it waits for.
        touched[queue] = touched[queue] or redis.call('ZRANGE', delayed, 0, 0)[1] == entry
      end
      redis.call('SADD', KEYS[key0 + 1], ARGV[argument0 + 1 + queue])
    end
    table.insert(answers, answer or (accepted and 1 or 0))
  end
  for queue in pairs(touched) do
    ring(KEYS[key0 + 3 * queue + 1])
  end
  return answers
end
