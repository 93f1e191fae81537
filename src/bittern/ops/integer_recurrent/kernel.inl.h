// SPDX-License-Identifier: Apache-2.0

// From gates to states and outputs. Included inside the namespace of one instruction set, after its gates.
//
// Numbers that tables turn into others go one at a time; what stands between them goes in loops that
// compilers turn into vectors.

namespace {

constexpr i64 kStepsTogether = 4;  // whose inputs are multiplied at once

inline i32 held(i32 x) {
  return limited(x, -32768, 32767);
}

// x / 2^bits, to the nearest, halves away from zero.
inline i32 shifted_away(i32 x, i32 bits) {
  return (x + (1 << (bits - 1)) + (x >> 31)) >> bits;
}

inline void look_up(const i16* table, const i32* x, i64 count, i32* to) {
  const i16* middle = table + 32768;
  for (i64 i = 0; i < count; ++i) to[i] = middle[x[i]];
}

// Working memory of some rows of a batch.
struct Memory {
  Number* inputs;               // [steps together, rows, pitch]
  Number* outputs;              // [rows, pitch]
  i32* given;                   // [steps together, rows, gate rows]
  i32* own;                     // [rows, gate rows]
  i32 *first, *second, *third;  // [hidden], to full units
};

// The gates with those of the product of the last output: both held to int16.
void join(const i32* own, i64 count, i32* given) {
  for (i64 i = 0; i < count; ++i) given[i] = held(held(given[i]) + own[i]);
}

// state = [kept * state + share * fresh]
void blend(const i32* kept, const i32* share, const i32* fresh, i64 count, i32 bits, i16* state) {
  for (i64 i = 0; i < count; ++i)
    state[i] = static_cast<i16>(
        held(shifted_away(kept[i] * state[i], 15) + shifted_away(share[i] * fresh[i], bits)));
}

void lstm(const IntegerRecurrent& l, i32* given, const i32* own, i16* state, const Memory& m) {
  const i64 n = l.hidden;
  join(own, 4 * n, given);
  look_up(l.logistic, given, n, m.first);
  look_up(l.logistic, given + n, n, m.second);
  look_up(l.tanh, given + 2 * n, n, m.third);
  blend(m.second, m.first, m.third, n, static_cast<i32>(l.state_bits), state);
  if (l.clip != 0) {
    const i32 most = static_cast<i32>(l.clip);
    for (i64 i = 0; i < n; ++i) state[i] = static_cast<i16>(limited(state[i], -most, most));
  }
  const i16 *logistic = l.logistic + 32768, *tanh = l.tanh_of_state + 32768;
  for (i64 i = 0; i < n; ++i) m.first[i] = i32{logistic[given[3 * n + i]]} * tanh[state[i]];
}

void gru(const IntegerRecurrent& l, i32* given, const i32* own, i16* state, const Memory& m) {
  const i64 n = l.hidden;
  join(own, 2 * n, given);
  look_up(l.logistic, given, n, m.first);
  look_up(l.logistic, given + n, n, m.second);
  i32* fresh = given + 2 * n;
  for (i64 i = 0; i < n; ++i)
    fresh[i] = held(held(fresh[i]) + shifted_away(m.first[i] * held(own[2 * n + i]), 15));
  look_up(l.tanh, fresh, n, m.third);
  for (i64 i = 0; i < n; ++i) m.first[i] = 32767 - m.second[i];
  blend(m.second, m.first, m.third, n, static_cast<i32>(l.state_bits), state);
  for (i64 i = 0; i < n; ++i) m.first[i] = state[i];
}

// Whether vectors of int32 hold what the factor of the output makes of the largest numbers.
bool output_fits(const IntegerRecurrent& l) {
  const i64 most = l.gated != 0 ? 1 << 15 : 1 << 30, right = -l.shift;
  return right >= 0 &&
         (most * l.multiplier >> 31) + (right == 0 ? 0 : i64{1} << (right - 1)) + 2 < (i64{1} << 31);
}

// The numbers of m.first as outputs, and as the next step's numbers.
void finish_outputs(const IntegerRecurrent& l, const Memory& m, i8* out, Number* next) {
  const i64 n = l.hidden;
  if (output_fits(l)) {
    const Factors f = same_factors(l.multiplier, l.shift);
    for (i64 i = 0; i < n; i += kFixedLanes) Dot::store(m.first + i, times(load_lanes(m.first + i), f));
  } else {
    for (i64 i = 0; i < n; ++i) m.first[i] = static_cast<i32>(scaled(m.first[i], l.multiplier, l.shift));
  }
  const i32 zero = static_cast<i32>(l.recurrent.zero), low = static_cast<i32>(l.low - l.recurrent.zero),
            high = static_cast<i32>(l.high - l.recurrent.zero);
  for (i64 i = 0; i < n; ++i) out[i] = static_cast<i8>(limited(m.first[i], low, high) + zero);
  numbers_of(l.recurrent, out, next);
}

Memory memory_of(const IntegerRecurrent& l, i64 rows) {
  const i64 number = static_cast<i64>(sizeof(Number)), inputs = kStepsTogether * rows * pitch_of(l.input),
            outputs = rows * pitch_of(l.recurrent), wide = round_up(l.hidden, kIntegerUnit);
  const i64 numbers = round_up((inputs + outputs) * number, 64),
            words = (kStepsTogether + 1) * rows * gate_rows(l.input) + 3 * wide;
  u8* all = scratch_array<u8>(Scratch::recurrent, numbers + words * static_cast<i64>(sizeof(i32)));
  std::memset(all, 0, static_cast<std::size_t>(numbers + words * static_cast<i64>(sizeof(i32))));
  Number* x = reinterpret_cast<Number*>(all);
  i32* given = reinterpret_cast<i32*>(all + numbers);
  i32* own = given + kStepsTogether * rows * gate_rows(l.input);
  i32* first = own + rows * gate_rows(l.recurrent);
  return {x, x + inputs, given, own, first, first + wide, first + 2 * wide};
}

// All steps of rows that follow each other.
void run_rows(const IntegerRecurrent& l, i64 row, i64 rows) {
  const Memory m = memory_of(l, rows);
  const i64 features = l.input.features, pitch = pitch_of(l.input), gates = gate_rows(l.input), n = l.hidden;
  for (i64 b = 0; b < rows; ++b)
    numbers_of(l.recurrent, l.first + (row + b) * n, m.outputs + b * pitch_of(l.recurrent));
  for (i64 done = 0; done < l.steps; done += kStepsTogether) {
    const i64 together = smaller(kStepsTogether, l.steps - done);
    const auto place = [&](i64 t, i64 b) {
      const i64 step = l.reverse != 0 ? l.steps - 1 - done - t : done + t;
      return (row + b) * l.steps + step;
    };
    for (i64 t = 0; t < together; ++t) {
      for (i64 b = 0; b < rows; ++b)
        numbers_of(l.input, l.x + place(t, b) * features, m.inputs + (t * rows + b) * pitch);
    }
    gates_of(l.input, m.inputs, together * rows, m.given);
    for (i64 t = 0; t < together; ++t) {
      gates_of(l.recurrent, m.outputs, rows, m.own);
      for (i64 b = 0; b < rows; ++b) {
        (l.gated != 0 ? gru : lstm)(l, m.given + (t * rows + b) * gates, m.own + b * gates,
                                    l.state + (row + b) * n, m);
        finish_outputs(l, m, l.out + place(t, b) * n, m.outputs + b * pitch_of(l.recurrent));
      }
    }
  }
}

void run_task(void* context, i64 task) {
  const IntegerRecurrent& l = *static_cast<const IntegerRecurrent*>(context);
  run_rows(l, task * kTogether, smaller(kTogether, l.batch - task * kTogether));
}

void integer_recurrent(const IntegerRecurrent& l, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 20;  // products
  const i64 products = l.batch * l.steps * l.input.rows * (l.input.features + l.hidden);
  parallel_for(ceil_div(l.batch, kTogether), products < kWorthThreads ? 1 : threads, run_task,
               const_cast<IntegerRecurrent*>(&l));
}

}  // namespace

const IntegerRecurrentKernels integer_recurrent_kernels = {integer_recurrent, prepared_bytes, prepare};
