// SPDX-License-Identifier: Apache-2.0

// A step of all tensors, task by task. Included inside the namespace of one instruction set, after runs.
//
// A rule with a trust ratio runs twice: first for the two norms, which writes nothing, then for the step.
// Small tensors go through both together, while the caches hold them, and the step starts with what was read
// last.

namespace {

constexpr i64 kTaskElements = 16384;
constexpr i64 kTasksTogether = 32;  // for each thread, of tensors that are measured and then stepped

struct StepJob {
  const StepCall* call;
  const i64* first_task;  // of each tensor, and the number of all tasks
  Squares* squares;       // per task; null for rules without a trust ratio
  const float* ratios;    // per tensor
  i64 first, end;         // the tasks that run
};

inline i64 blocks_per_task(const StepTensor& t) {
  return larger(1, kTaskElements / t.block);
}

struct TaskRange {
  i64 tensor, first, end;  // blocks [first, end) of a tensor
};

inline TaskRange range_of(const StepJob& job, i64 task) {
  i64 low = 0, high = job.call->count - 1;
  while (low < high) {
    const i64 middle = (low + high + 1) / 2;
    if (job.first_task[middle] <= task) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const StepTensor& t = job.call->tensors[low];
  const i64 first = (task - job.first_task[low]) * blocks_per_task(t);
  return {low, first, smaller(blocks_of(t), first + blocks_per_task(t))};
}

template <class R>
inline void step_blocks(const StepCall& call, const StepTensor& t, const R& rule, i64 first, i64 end) {
  const Workspace w = workspace(t.block);
  const float scale = call.scalars[t.scalars * call.scalars_per_row];
  for (Block b = block_at(t, first); b.index < end; b = after(t, b)) {
    if (const i64 stepped = step_whole_blocks(call, t, rule, b, end, scale, w); stepped > 0) {
      b = block_at(t, b.index + stepped - 1);
      continue;
    }
    const Operands o = load_block<R>(call, t, b, w);
    float absmax[kMostStates];
    if (t.bits == 32) {
      apply<R, false>(rule, o, LoadedStates<R, false>{o}, b.n, scale, absmax);
    } else {
      apply<R, true>(rule, o, LoadedStates<R, true>{o}, b.n, scale, absmax);
    }
    store_block<R>(call, t, b, o, absmax, w);
  }
}

template <class R>
inline Squares measure_blocks(const StepCall& call, const StepTensor& t, const R& rule, i64 first, i64 end) {
  const Workspace w = workspace(t.block);
  const F32 scale = splat(call.scalars[t.scalars * call.scalars_per_row]);
  Squares total{0, 0};
  for (Block b = block_at(t, first); b.index < end; b = after(t, b)) {
    const Squares found = t.bits == 32            ? squares_of_loaded(call, t, rule, b, scale, w)
                          : R::kDirectionOfStates ? squares_of_codes(call, t, rule, b, scale, w)
                                                  : squares_without_states(t, rule, b, scale, w);
    total.param += found.param;
    total.direction += found.direction;
  }
  return total;
}

template <class R>
void step_with(const StepJob& job, const TaskRange& r) {
  const StepCall& call = *job.call;
  const StepTensor& t = call.tensors[r.tensor];
  step_blocks(call, t, R(call.scalars + t.scalars * call.scalars_per_row), r.first, r.end);
}

template <class R>
void trusted_step_with(const StepJob& job, const TaskRange& r) {
  const StepCall& call = *job.call;
  const StepTensor& t = call.tensors[r.tensor];
  const R rule(call.scalars + t.scalars * call.scalars_per_row, job.ratios[r.tensor]);
  step_blocks(call, t, rule, r.first, r.end);
}

void step_task(void* context, i64 index) {
  const StepJob& job = *static_cast<const StepJob*>(context);
  const TaskRange r = range_of(job, job.end - 1 - index);
  const float* s = job.call->scalars + job.call->tensors[r.tensor].scalars * job.call->scalars_per_row;
  switch (job.call->rule) {
    case Rule::sgd:
      return step_with<Sgd>(job, r);
    case Rule::momentum:
      return s[5] != 0 ? step_with<Momentum<true>>(job, r) : step_with<Momentum<false>>(job, r);
    case Rule::adam:
      return s[8] != 0 ? step_with<Adam<false, true>>(job, r) : step_with<Adam<false, false>>(job, r);
    case Rule::amsgrad:
      return s[8] != 0 ? step_with<Adam<true, true>>(job, r) : step_with<Adam<true, false>>(job, r);
    case Rule::nadam:
      return step_with<NAdam>(job, r);
    case Rule::radam:
      return s[6] != 0 ? step_with<RAdam<true>>(job, r) : step_with<RAdam<false>>(job, r);
    case Rule::adagrad:
      return step_with<Adagrad>(job, r);
    case Rule::rmsprop:
      return step_with<RmsProp<false, false>>(job, r);
    case Rule::rmsprop_momentum:
      return step_with<RmsProp<false, true>>(job, r);
    case Rule::rmsprop_centered:
      return step_with<RmsProp<true, false>>(job, r);
    case Rule::rmsprop_centered_momentum:
      return step_with<RmsProp<true, true>>(job, r);
    case Rule::lion:
      return step_with<Lion>(job, r);
    case Rule::lamb:
      return trusted_step_with<Lamb>(job, r);
    case Rule::lars:
      return trusted_step_with<Lars>(job, r);
    case Rule::ademamix:
      return step_with<AdEmaMix>(job, r);
    case Rule::adan:
      return step_with<Adan>(job, r);
    case Rule::adadelta:
      return step_with<Adadelta>(job, r);
    case Rule::adamax:
      return step_with<Adamax>(job, r);
    case Rule::rprop:
      return step_with<Rprop>(job, r);
    case Rule::asgd:
      return s[2] == 1 ? step_with<Asgd<false>>(job, r) : step_with<Asgd<true>>(job, r);
    case Rule::schedule_free_adamw:
      return step_with<ScheduleFreeAdamW>(job, r);
    case Rule::schedule_free_sgd:
      return step_with<ScheduleFreeSgd>(job, r);
    case Rule::count:
      return;
  }
}

template <class R>
void measure_task(void* context, i64 index) {
  const StepJob& job = *static_cast<const StepJob*>(context);
  const StepCall& call = *job.call;
  const i64 task = job.first + index;
  const TaskRange r = range_of(job, task);
  const StepTensor& t = call.tensors[r.tensor];
  const R rule(call.scalars + t.scalars * call.scalars_per_row, 1.0f);
  job.squares[task] = measure_blocks(call, t, rule, r.first, r.end);
}

// The ratios of tensors [first, end), whose tasks are those of the job.
template <class R>
void find_ratios(StepJob& job, i64 first, i64 end, float* ratios) {
  const StepCall& call = *job.call;
  parallel_for(job.end - job.first, call.threads, measure_task<R>, &job);
  for (i64 i = first; i < end; ++i) {
    double param = 0, direction = 0;
    for (i64 task = job.first_task[i]; task < job.first_task[i + 1]; ++task) {
      param += job.squares[task].param;
      direction += job.squares[task].direction;
    }
    if (call.norms != nullptr) {
      call.norms[2 * i] = param;
      call.norms[2 * i + 1] = direction;
    }
    const float* s = call.scalars + call.tensors[i].scalars * call.scalars_per_row;
    const double p_norm = __builtin_sqrt(param), norm = __builtin_sqrt(direction);
    ratios[i] = R::ratio(s, static_cast<float>(p_norm), static_cast<float>(norm));
  }
}

// Measures and steps tensors, as many at a time as the caches may hold, one at least.
template <class R>
void trusted_step(StepJob& job) {
  const StepCall& call = *job.call;
  job.squares = scratch_array<Squares>(Scratch::step_squares, job.first_task[call.count]);
  float* ratios = scratch_array<float>(Scratch::step_ratios, call.count);
  job.ratios = ratios;
  for (i64 first = 0, end; first < call.count; first = end) {
    end = first + 1;
    const i64 most = job.first_task[first] + kTasksTogether * call.threads;
    while (end < call.count && job.first_task[end + 1] <= most) ++end;
    job.first = job.first_task[first];
    job.end = job.first_task[end];
    find_ratios<R>(job, first, end, ratios);
    if (call.norms == nullptr) parallel_for(job.end - job.first, call.threads, step_task, &job);
  }
}

void optimizer_step(const StepCall& call) {
  i64* first_task = scratch_array<i64>(Scratch::step_tasks, call.count + 1);
  i64 tasks = 0;
  for (i64 i = 0; i < call.count; ++i) {
    first_task[i] = tasks;
    tasks += ceil_div(blocks_of(call.tensors[i]), blocks_per_task(call.tensors[i]));
  }
  first_task[call.count] = tasks;
  StepJob job{&call, first_task, nullptr, call.ratios, 0, tasks};
  const bool known = call.ratios != nullptr;
  if (call.rule == Rule::lamb && !known) return trusted_step<Lamb>(job);
  if (call.rule == Rule::lars && !known) return trusted_step<Lars>(job);
  parallel_for(tasks, call.threads, step_task, &job);
}

}  // namespace

const OptimizerStepKernels optimizer_step_kernels = {optimizer_step};
