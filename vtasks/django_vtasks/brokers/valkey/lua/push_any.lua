-- Add tasks of any kind, in order, to one or several queues; one whose lock another task holds is left out.
-- KEYS: queues, then waiting, delayed, bell of each queue, then each lock
-- ARGV: number of queues, their names, then seven per task: number of the queue, entry, lane, time at which it is due in µs
--       or "", lock's number or 0, id, lock's time to live in ms or 0
-- Returns: 1 or 0 per task

local queues = tonumber(ARGV[1])
local answers = {}
local touched = {}
local time = now()
for i = queues + 2, #ARGV, 7 do
  local queue, entry, lane, when, lock, id, ttl = tonumber(ARGV[i]), unpack(ARGV, i + 1, i + 6)
  local accepted = true
  if lock ~= '0' then
    local key = KEYS[1 + 3 * queues + tonumber(lock)]
    if ttl ~= '0' then
      accepted = redis.call('SET', key, id, 'NX', 'PX', ttl)
    else
      accepted = redis.call('SET', key, id, 'NX')
    end
  end
  if accepted then
    local waiting, delayed = KEYS[3 * queue - 1], KEYS[3 * queue]
    if when == '' or tonumber(when) <= time then
      enqueue(waiting, lane, entry)
      touched[queue] = true
    else
      redis.call('ZADD', delayed, when, entry)
      -- An idle claim must learn of a time that is earlier than the one it waits for.
      touched[queue] = touched[queue] or redis.call('ZRANGE', delayed, 0, 0)[1] == entry
    end
    redis.call('SADD', KEYS[1], ARGV[1 + queue])
  end
  table.insert(answers, accepted and 1 or 0)
end
for queue in pairs(touched) do
  ring(KEYS[3 * queue + 1])
end
return answers
