-- (Lua 5.1.) What a site takes and what it refuses, said in a sentence to whoever submitted. slurmctld calls this for every job.
local RULES = nil
local ROWS = nil

local NO_VAL16, NO_VAL, NO_VAL64 = 65534, 4294967294, 18446744073709551614

local function given(value)
   return value ~= nil and value ~= "" and value ~= NO_VAL16 and value ~= NO_VAL and value ~= NO_VAL64
end

local function refuse(...)
   slurm.log_user("%s", RULES.title .. " refuses this job: " .. string.format(...))
   return slurm.ERROR
end

local function plural(number, noun)
   return string.format("%d %s%s", number, noun, number == 1 and "" or "s")
end

local function hours(minutes)
   return string.format("%d:%02d:00", math.floor(minutes / 60), minutes % 60)
end

local function gpus_in(tres)  -- "gres:gpu:4", "gpu:a100:4", "gres:gpu"
   if not given(tres) or not tres:find("gpu") then return nil end
   return tonumber(tres:match("gpu[^,]*[:=](%d+)")) or 1
end

local function named(row)
   return row.partition .. (row.qos and (" with --qos=" .. row.qos) or "")
end

local function rows_of(partition)
   local found = {}
   for _, row in ipairs(ROWS) do
      if row.partition == partition then found[#found + 1] = row end
   end
   return found
end

-- Rows under which the job's QOS puts it, or a refusal.
local function rows_for(job, partition)
   local rows, fitting, names, without = rows_of(partition), {}, {}, false
   for _, row in ipairs(rows) do
      if row.qos == nil then without = true else names[#names + 1] = row.qos == "<account>" and "the same as --account" or row.qos end
      local qos = row.qos == "<account>" and job.account or row.qos
      if (given(job.qos) and qos == job.qos) or (not given(job.qos) and row.qos == nil) then fitting[#fitting + 1] = row end
   end
   if given(job.qos) and #names == 0 and job.qos ~= "normal" then
      return nil, string.format("it knows no QOS, so leave --qos=%s out.", job.qos)
   end
   if #rows == 0 or #fitting > 0 or #names == 0 then return #fitting > 0 and fitting or rows end
   if given(job.qos) then
      if without and job.qos == "normal" then return rows end
      return nil, string.format("it has no QOS %s in partition %s; known there: %s.", job.qos, partition, table.concat(names, ", "))
   end
   if RULES.qos_required or not without then
      return nil, string.format("a job names its quality of service; add --qos= with one of: %s.", table.concat(names, ", "))
   end
   return rows
end

function slurm_job_submit(job, partitions, uid)
   local partition = given(job.partition) and job.partition or RULES.default_partition
   if RULES.account and not given(job.account) then
      return refuse("it says no account to be charged; add --account=%s.", RULES.account)
   end
   if RULES.suffix and RULES.account and job.account:sub(-#RULES.suffix) ~= RULES.suffix then
      return refuse("accounts for GPU jobs end in %s, such as %s; this one is %s.", RULES.suffix, RULES.account, job.account)
   end
   local rows, why = rows_for(job, partition)
   if rows == nil then return refuse("%s", why) end

   local nodes = given(job.min_nodes) and job.min_nodes or 1
   local fits, limit, least = #rows == 0, nil, nil
   for _, row in ipairs(rows) do
      if row.most and nodes > row.most then
         if not limit or not limit.most or row.most > limit.most then limit = row end
      elseif row.least and nodes < row.least then
         least = row
      else
         fits = true
      end
   end
   if not fits and limit then
      return refuse("it asks for %s, and %s allows %d at most.", plural(nodes, "node"), named(limit), limit.most)
   end
   if not fits and least then
      return refuse("it asks for %s, and %s is for %d or more.", plural(nodes, "node"), named(least), least.least)
   end

   if given(job.time_limit) then
      local longest = nil
      fits = #rows == 0
      for _, row in ipairs(rows) do
         if not row.minutes or job.time_limit <= row.minutes then fits = true end
         if row.minutes and (not longest or row.minutes > longest.minutes) then longest = row end
      end
      if not fits then
         return refuse("it asks for %s, and %s allows %s at most.", hours(job.time_limit), named(longest), hours(longest.minutes))
      end
   end

   local gpus = gpus_in(job.tres_per_node)
   if gpus and gpus > RULES.gpus then
      return refuse("it asks for %s per node, and a node has %d.", plural(gpus, "GPU"), RULES.gpus)
   end
   if RULES.memory_refused and given(job.pn_min_memory) then
      return refuse("it says how much memory it needs; memory comes with the cores here, so leave --mem out.")
   end
   if RULES.cores_per_gpu and gpus and given(job.cpus_per_task) then
      local tasks = given(job.ntasks_per_node) and job.ntasks_per_node or 1
      local cores = job.cpus_per_task * tasks
      if cores ~= RULES.cores_per_gpu * gpus then
         return refuse("it asks for %s with %s per node; here every GPU comes with %d cores, no more and no fewer, so ask for %d.",
            plural(cores, "core"), plural(gpus, "GPU"), RULES.cores_per_gpu, RULES.cores_per_gpu * gpus)
      end
   end
   if nodes > RULES.nodes then
      return refuse("this miniature has %s of it; start one with more: aboard cluster up --nodes %d.", plural(RULES.nodes, "node"), nodes)
   end
   return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
   return slurm.SUCCESS
end

return slurm.SUCCESS
