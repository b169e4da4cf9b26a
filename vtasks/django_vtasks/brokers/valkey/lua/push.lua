-- Add tasks of any kind, in order, to one or several queues; one whose lock another task holds is left out.
-- KEYS: queues, then waiting, delayed, bell of each queue, then each lock
-- ARGV: number of queues, their names, then seven per task: number of the queue, entry, lane, time at which it is due in µs
--       or "", lock's number or 0, id, lock's time to live in ms or 0
-- Returns: 1 or 0 per task

return push(0, 0)
