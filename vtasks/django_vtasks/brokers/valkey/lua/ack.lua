-- Forget claims of an owner in one queue that have ended well and hold no lock, as nearly all do.
-- KEYS: flight
-- ARGV: receipts
-- Returns: 1 or 0 per receipt

local answers = {}
for i, receipt in ipairs(ARGV) do
  answers[i] = redis.call('HDEL', KEYS[1], receipt)
end
return answers
