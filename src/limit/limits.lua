-- Checks several limits at once: either all of them agree and all are taken from, or none is.
--
-- KEYS     one for each step
-- ARGV[1]  the time in µs, for tests; the server's own where it is empty
-- ARGV[2]  how long a lease lasts, in µs
-- and for each step four more: its kind, two values, and `refused` if it runs only where a step
-- refused.
--
--   read       a bucket: nothing is changed
--   take       a bucket: cost, capacity
--   lease      a set of open streams: the stream's name, how many there may be
--   give_back  a bucket: what was taken, and when the bucket was last full then
--   charge     a bucket: what is taken even if it is not there
--   renew      a set of open streams: the stream's name
--   release    a set of open streams: the stream's name
--
-- A bucket is the time at which it will be full again, and the time at which it was last full; both
-- in µs, and an amount is the time that it takes to come back. A full bucket is not stored. The field
-- of the second time is named `busy_since`, because replicas of version 0.1 read it.
--
-- Returns which step refused (0: none) and by how much, and each step's bucket: how much is missing
-- of it now, and when it was last full.

-- Times since 2025, because a double holds them to some hundredths of a µs.
local EPOCH = 1735689600

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = (time[1] - EPOCH) * 1000000 + time[2]
end
local duration = tonumber(ARGV[2])

-- The longest debt, in µs: 285 years. Beyond, a double loses whole µs, and an expiry is no integer.
local MAX_MISSING = 2 ^ 53

-- All digits: `tostring` omits some.
local function exact(value)
  return string.format('%.17g', value)
end

local function read(key)
  local bucket = redis.call('HMGET', key, 'full_at', 'busy_since')
  local full_at = tonumber(bucket[1])
  if full_at and full_at > now then
    return full_at, bucket[2]
  end
  return now, exact(now)
end

local function write(key, full_at, last_full_at)
  if full_at <= now then
    redis.call('DEL', key)
    return
  end
  redis.call('HSET', key, 'full_at', exact(full_at), 'busy_since', last_full_at)
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil((full_at - now) / 1000) + 1))
end

local function add(full_at, amount)
  return math.min(full_at + tonumber(amount), now + MAX_MISSING)
end

local function lease(key, stream)
  redis.call('ZADD', key, exact(now + duration), stream)
  redis.call('PEXPIRE', key, math.ceil(duration / 1000))
end

local function step(i)
  local at = 4 * i - 1
  return ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
end

local refused, by = 0, 0
for i, key in ipairs(KEYS) do
  local kind, a, b = step(i)
  if refused == 0 and kind == 'take' then
    -- Half a µs is no reason to refuse a client that waited as long as it was asked to.
    local over = read(key) + tonumber(a) - now - tonumber(b)
    if over > 0.5 then
      refused, by = i, over
    end
  elseif refused == 0 and kind == 'lease' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', exact(now))
    if redis.call('ZCARD', key) >= tonumber(b) then
      refused = i
    end
  end
end

local buckets = {}
for i, key in ipairs(KEYS) do
  local kind, a, b, when = step(i)
  local full_at, last_full_at = now, ''
  if kind == 'read' then
    full_at, last_full_at = read(key)
  elseif kind == 'take' then
    full_at, last_full_at = read(key)
    if refused == 0 then
      full_at = add(full_at, a)
      write(key, full_at, last_full_at)
    end
  elseif kind == 'lease' then
    if refused == 0 then
      lease(key, a)
    end
  elseif when ~= 'refused' or refused ~= 0 then
    if kind == 'give_back' then
      full_at, last_full_at = read(key)
      -- Since the bucket was full, everything has come back by itself.
      if last_full_at == b then
        full_at = full_at - tonumber(a)
        write(key, full_at, last_full_at)
      end
    elseif kind == 'charge' then
      full_at, last_full_at = read(key)
      full_at = add(full_at, a)
      write(key, full_at, last_full_at)
    elseif kind == 'renew' then
      lease(key, a)
    elseif kind == 'release' then
      redis.call('ZREM', key, a)
    end
  end
  buckets[i] = { exact(math.max(full_at - now, 0)), last_full_at }
end
return { refused, exact(by), buckets }
