// A simulated CUDA device for a PyTorch without CUDA: its memory is host memory, its kernels are
// those of the CPU. It registers what libtorch_cuda would register, uses public headers alone, and
// counts launches, copies and waits. It raises what CUDA raises: tensors of two devices in one
// operation, a CPU generator for a draw on the device.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <string>

static constexpr c10::DeviceType kDevice = c10::DeviceType::CUDA;
static constexpr c10::DispatchKey kKey = c10::DispatchKey::CUDA;

namespace {

// Counters, which `stats` and `ops` return.
std::atomic<int64_t> in_use{0}, peak{0}, most{int64_t(1) << 40}, n_allocs{0};
std::atomic<int64_t> h2d_bytes{0}, h2d{0}, d2h_bytes{0}, d2h{0}, syncs{0}, launches{0},
    fail_after{-1};
std::map<std::string, int64_t> by_op;
std::mutex lock;
thread_local int inside = 0;  // depth of calls whose copies and launches are not counted
thread_local c10::DeviceIndex current = 0;

struct Inside {
  Inside() { ++inside; }
  ~Inside() { --inside; }
};

void count(const std::string& name) {
  if (inside) return;
  ++launches;
  std::lock_guard<std::mutex> hold(lock);
  ++by_op[name];
}

// Memory. A header before each block stores its size.
struct SimulatedAllocator final : c10::Allocator {
  static void free_it(void* context) {
    auto* header = static_cast<int64_t*>(context);
    in_use -= header[0];
    std::free(header);
  }
  c10::DataPtr allocate(size_t n) override {
    c10::Device device(kDevice, current);
    if (n == 0) return {nullptr, nullptr, &free_it, device};
    int64_t rounded = int64_t((n + 511) / 512 * 512), now = in_use += rounded;
    bool fails = !inside && fail_after >= 0 && fail_after-- == 0;
    if (now > most || fails) {
      in_use -= rounded;
      TORCH_CHECK_WITH(OutOfMemoryError, false,
                       "CUDA out of memory (simulated): tried to allocate ", n, " bytes");
    }
    ++n_allocs;
    int64_t p = peak;
    while (now > p && !peak.compare_exchange_weak(p, now)) {
    }
    void* memory = nullptr;
    TORCH_CHECK(posix_memalign(&memory, 64, rounded + 64) == 0, "host memory");
    static_cast<int64_t*>(memory)[0] = rounded;
    void* data = static_cast<char*>(memory) + 64;
    memset(data, 0x7f,
           n < 4096 ? n : 4096);  // large numbers: reading before writing changes results
    return {data, memory, &free_it, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t n) const override { memcpy(to, from, n); }
};
SimulatedAllocator allocator;

// Devices and streams: two devices, on which every operation is finished when it returns.
struct SimulatedGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kDevice; }
  c10::Device exchangeDevice(c10::Device d) const override {
    c10::Device old(kDevice, current);
    if (d.index() >= 0) current = d.index();
    return old;
  }
  c10::Device getDevice() const override { return {kDevice, current}; }
  void setDevice(c10::Device d) const override { exchangeDevice(d); }
  void uncheckedSetDevice(c10::Device d) const noexcept override {
    if (d.index() >= 0) current = d.index();
  }
  c10::Stream getStream(c10::Device d) const override {
    return c10::Stream(c10::Stream::DEFAULT,
                       c10::Device(kDevice, d.index() < 0 ? current : d.index()));
  }
  c10::Stream getDefaultStream(c10::Device d) const override { return getStream(d); }
  c10::Stream getNewStream(c10::Device d, int) const override { return getStream(d); }
  c10::Stream exchangeStream(c10::Stream s) const override { return getStream(s.device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return 2; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { ++syncs; }
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override { ++syncs; }
};

// Generators: each draws from a CPU generator that is not visible outside.
struct SimulatedGenerator final : c10::GeneratorImpl {
  at::Generator inner;
  explicit SimulatedGenerator(c10::DeviceIndex i,
                              uint64_t seed = c10::detail::getNonDeterministicRandom())
      : c10::GeneratorImpl(c10::Device(kDevice, i < 0 ? current : i), c10::DispatchKeySet(kKey)),
        inner(at::detail::createCPUGenerator(seed)) {}
  void set_current_seed(uint64_t s) override { inner.set_current_seed(s); }
  void set_offset(uint64_t s) override { inner.set_offset(s); }
  uint64_t get_offset() const override { return inner.get_offset(); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& s) override {
    inner.unsafeGetGeneratorImpl()->set_state(s);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return inner.unsafeGetGeneratorImpl()->get_state();
  }
  SimulatedGenerator* clone_impl() const override {
    auto* other = new SimulatedGenerator(device().index(), 0);
    other->inner = inner.clone();
    return other;
  }
};
const at::Generator& default_generator(c10::DeviceIndex i) {
  static at::Generator two[2] = {at::make_generator<SimulatedGenerator>(0, 0),
                                 at::make_generator<SimulatedGenerator>(1, 0)};
  return two[(i < 0 ? current : i) & 1];
}

struct SimulatedHooks : at::CUDAHooksInterface {
  explicit SimulatedHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 2; }
  int getNumGPUs() const override { return 2; }
  c10::DeviceIndex current_device() const override { return current; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex i) const override { current = i; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex i) const override {
    auto old = current;
    current = i;
    return old;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex i) const override {
    return exchangeDevice(i);
  }
  void deviceSynchronize(c10::DeviceIndex) const override { ++syncs; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex i = -1) const override {
    return default_generator(i);
  }
  at::Generator getNewGenerator(c10::DeviceIndex i = -1) const override {
    return at::make_generator<SimulatedGenerator>(i);
  }
  at::Device getDeviceFromPtr(void*) const override { return {kDevice, current}; }
};

// Allocation and copies.
at::Tensor empty(c10::IntArrayRef size, std::optional<c10::ScalarType> dtype,
                 std::optional<c10::Layout>, std::optional<c10::Device> device, std::optional<bool>,
                 std::optional<c10::MemoryFormat> format) {
  auto old = current;
  if (device && device->has_index()) current = device->index();
  struct Back {
    c10::DeviceIndex old;
    ~Back() { current = old; }
  } back{old};
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(kKey),
                                   c10::dtype_or_default(dtype), format);
}
at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
                         std::optional<c10::Device> device, std::optional<bool>) {
  auto old = current;
  if (device && device->has_index()) current = device->index();
  struct Back {
    c10::DeviceIndex old;
    ~Back() { current = old; }
  } back{old};
  return at::detail::empty_strided_generic(size, stride, &allocator, c10::DispatchKeySet(kKey),
                                           c10::dtype_or_default(dtype));
}

// The same memory as a CPU tensor.
at::Tensor on_cpu(const at::Tensor& t) {
  if (t.device().type() != kDevice) return t;
  auto keep = t.storage();
  auto storage = c10::Storage(
      c10::Storage::use_byte_size_t(), keep.nbytes(),
      c10::DataPtr(
          keep.mutable_data(), new c10::Storage(keep),
          [](void* p) { delete static_cast<c10::Storage*>(p); }, c10::Device(c10::kCPU)),
      c10::GetAllocator(c10::kCPU), true);
  auto view = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
  auto* impl = view.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  if (t.is_conj()) impl->_set_conj(true);
  if (t.is_neg()) impl->_set_neg(true);
  return view;
}

void note_copy(const at::Tensor& to, const at::Tensor& from, bool non_blocking) {
  if (inside) return;
  bool here = to.device().type() == kDevice, there = from.device().type() == kDevice;
  int64_t n = from.numel() * int64_t(from.element_size());
  if (here && there) {
    count("copy_ (on device)");
    return;
  }
  if (here) {
    ++h2d;
    h2d_bytes += n;
    count("copy_ (to device)");
  } else {
    ++d2h;
    d2h_bytes += n;
    if (!non_blocking) ++syncs;
    count("copy_ (to host)");
  }
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& src, bool non_blocking) {
  note_copy(self, src, non_blocking);
  Inside in;
  on_cpu(self).copy_(on_cpu(src));
  return self;
}
at::Tensor copy_from(const at::Tensor& src, const at::Tensor& dst, bool non_blocking) {
  note_copy(dst, src, non_blocking);
  Inside in;
  on_cpu(dst).copy_(on_cpu(src));
  return dst;
}
at::Tensor copy_from_and_resize(const at::Tensor& src, const at::Tensor& dst) {
  note_copy(dst, src, false);
  Inside in;
  if (dst.sizes() != src.sizes()) dst.resize_(src.sizes());
  on_cpu(dst).copy_(on_cpu(src));
  return dst;
}
const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef size,
                         std::optional<c10::MemoryFormat> format) {
  return at::native::resize_(self, size, format);
}
at::Scalar item(const at::Tensor& self) {
  if (!inside) {
    ++syncs;
    count("_local_scalar_dense");
  }
  Inside in;
  return at::_local_scalar_dense(on_cpu(self));
}

// All other operations: the kernels of the CPU.

// Operations whose indices may be on the CPU: they are copied to the device.
const std::set<std::string> takes_cpu_indices{"aten::index.Tensor", "aten::index_put_",
                                              "aten::_index_put_impl_", "aten::index_put",
                                              "aten::_unsafe_index.Tensor"};
// Operations for which the host waits, since the shape of their result depends on values.
const std::set<std::string> waits{
    "aten::nonzero",  "aten::equal",      "aten::masked_select", "aten::unique_dim",
    "aten::_unique2", "aten::is_nonzero", "aten::allclose",      "aten::repeat_interleave.Tensor"};

void check_devices(const c10::OperatorHandle& op, const torch::jit::Stack& stack, size_t n) {
  const auto& name = op.schema().operator_name();
  std::string full = name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
  std::optional<c10::Device> device;
  bool cpu_tensor = false, any_cpu = false, indices_ok = takes_cpu_indices.count(full);
  auto check = [&](const at::Tensor& t, size_t which) {
    if (!t.defined()) return;
    if (t.device().type() == kDevice) {
      TORCH_CHECK(!device || *device == t.device(),
                  "Expected all tensors to be on the same device, but found at least two devices, ",
                  *device, " and ", t.device(), "! (when calling ", full, ")");
      device = t.device();
      return;
    }
    any_cpu = true;
    if (t.dim() > 0 || full.find("aten::cat") == 0) {
      if (!(indices_ok && which == 1))
        cpu_tensor = true;
      else if (!inside) {
        ++h2d;
        h2d_bytes += t.numel() * int64_t(t.element_size());
        count("copy_ (index to device)");
      }
    } else if (!t.unsafeGetTensorImpl()->is_wrapped_number() && !inside) {
      count("(0-dim CPU tensor) " + full);
    }
  };
  for (size_t i = 0; i < n; ++i) {
    const auto& v = stack[stack.size() - n + i];
    if (v.isTensor())
      check(v.toTensor(), i);
    else if (v.isTensorList())
      for (const at::Tensor& t : v.toTensorList()) check(t, i);
    else if (v.isOptionalTensorList())
      for (const std::optional<at::Tensor>& t : v.toOptionalTensorList())
        if (t) check(*t, i);
  }
  TORCH_CHECK(!(device && cpu_tensor),
              "Expected all tensors to be on the same device, but found at least two devices, ",
              *device, " and cpu! (when calling ", full, ")");
  TORCH_CHECK(device || !any_cpu,
              "Expected a 'cpu' device type for generator but found 'cuda' (when calling ", full,
              ")");
  if (!inside && indices_ok) {  // the host waits for the number of true entries
    const auto& v = stack[stack.size() - n + 1];
    if (v.isOptionalTensorList())
      for (const std::optional<at::Tensor>& t : v.toOptionalTensorList())
        if (t && t->defined() && (t->scalar_type() == at::kBool || t->scalar_type() == at::kByte))
          ++syncs;
  }
  bool has_size = full == "aten::repeat_interleave.Tensor" && !stack.back().isNone();
  if (!inside && waits.count(full) && !has_size) ++syncs;
  count(full);
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  size_t n = schema.arguments().size();
  check_devices(op, *stack, n);
  for (size_t i = 0; i < n; ++i) {
    auto& v = (*stack)[stack->size() - n + i];
    const auto& type = *schema.arguments()[i].type();
    bool is_generator = type.kind() == c10::TypeKind::GeneratorType;
    if (auto o = schema.arguments()[i].type()->cast<c10::OptionalType>())
      is_generator = is_generator || o->getElementType()->kind() == c10::TypeKind::GeneratorType;
    if (!is_generator) continue;
    at::Generator g = v.isNone() ? default_generator(current) : v.toGenerator();
    if (v.isNone()) count("(default generator) " + schema.name());
    TORCH_CHECK(g.device().type() == kDevice,
                "Expected a 'cuda' device type for generator but found 'cpu' (when calling ",
                schema.name(), ")");
    v = static_cast<SimulatedGenerator*>(g.unsafeGetGeneratorImpl())->inner;
  }
  Inside in;
  // The kernels work on the memory of the device; only results are copied.
  std::vector<std::pair<at::Tensor, at::Tensor>> aliases;
  c10::Device target(kDevice, current);
  auto alias = [&](const at::Tensor& t) -> at::Tensor {
    if (!t.defined() || t.device().type() != kDevice) return t;
    target = t.device();
    for (auto& p : aliases)
      if (p.first.is_same(t)) return p.second;
    aliases.emplace_back(t, on_cpu(t));
    return aliases.back().second;
  };
  for (size_t i = 0; i < n; ++i) {
    auto& v = (*stack)[stack->size() - n + i];
    if (v.isTensor())
      v = alias(v.toTensor());
    else if (v.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& t : v.toTensorList()) list.push_back(alias(t));
      v = std::move(list);
    } else if (v.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& t : v.toOptionalTensorList())
        list.push_back(t && t->defined() ? std::optional<at::Tensor>(alias(*t)) : std::nullopt);
      v = std::move(list);
    } else if (v.isDevice()) {
      if (v.toDevice().type() == kDevice) {
        if (v.toDevice().has_index()) target = v.toDevice();
        v = c10::Device(c10::kCPU);
      }
    }
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (auto& [orig, cpu] : aliases)
    if (cpu.storage().data() != orig.storage().data() &&
        cpu.numel() > 0) {  // the kernel has reallocated it
      orig.resize_(cpu.sizes());
      on_cpu(orig).copy_(cpu);
    } else if (cpu.sizes() != orig.sizes())
      orig.unsafeGetTensorImpl()->set_sizes_and_strides(cpu.sizes(), cpu.strides(),
                                                        cpu.storage_offset());
  auto back = [&](const at::Tensor& t) -> at::Tensor {
    if (!t.defined()) return t;
    for (auto& p : aliases)
      if (p.second.is_same(t)) return p.first;
    auto moved =
        empty_strided(t.sizes(), t.strides(), t.scalar_type(), std::nullopt, target, std::nullopt);
    if (t.numel()) on_cpu(moved).copy_(t);
    return moved;
  };
  size_t m = schema.returns().size();
  for (size_t i = 0; i < m; ++i) {
    auto& v = (*stack)[stack->size() - m + i];
    if (v.isTensor())
      v = back(v.toTensor());
    else if (v.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& t : v.toTensorList()) list.push_back(back(t));
      v = std::move(list);
    }
  }
}

}  // namespace

namespace at {  // where the macro of the registry must be
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, SimulatedHooks)
}
namespace c10 {
namespace impl {
C10_REGISTER_GUARD_IMPL(CUDA, SimulatedGuard);
}
}  // namespace c10
static bool registered = [] {
  c10::SetAllocator(kDevice, &allocator, 100);
  return true;
}();

TORCH_LIBRARY_IMPL(_, CUDA, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("resize_", &resize);
  m.impl("_local_scalar_dense", &item);
  m.impl("as_strided",
         [](const at::Tensor& t, c10::IntArrayRef s, c10::IntArrayRef st,
            std::optional<int64_t> o) { return at::native::as_strided_tensorimpl(t, s, st, o); });
  m.impl("view", [](const at::Tensor& t, c10::IntArrayRef s) { return at::native::view(t, s); });
  m.impl("_reshape_alias", [](const at::Tensor& t, c10::IntArrayRef s, c10::IntArrayRef st) {
    return at::native::_reshape_alias(t, s, st);
  });
  m.impl("unfold", [](const at::Tensor& t, int64_t d, int64_t s, int64_t st) {
    return at::native::unfold(t, d, s, st);
  });
  m.impl("set_.source_Storage", [](at::Tensor& t, c10::Storage s) -> at::Tensor& {
    return at::native::set_(t, std::move(s));
  });
  m.impl("set_.source_Storage_storage_offset",
         [](at::Tensor& t, c10::Storage s, int64_t o, c10::IntArrayRef z, c10::IntArrayRef st)
             -> at::Tensor& { return at::native::set_storage_cpu_(t, std::move(s), o, z, st); });
  m.impl("set_.source_Tensor", [](at::Tensor& t, const at::Tensor& s) -> at::Tensor& {
    return at::native::set_tensor_(t, s);
  });
  // It changes its running statistics in place, which its schema does not declare.
  m.impl("native_batch_norm",
         [](const at::Tensor& x, const std::optional<at::Tensor>& w,
            const std::optional<at::Tensor>& b, const std::optional<at::Tensor>& rm,
            const std::optional<at::Tensor>& rv, bool training, double momentum, double eps) {
           count("aten::native_batch_norm");
           Inside in;
           auto c = [](const std::optional<at::Tensor>& t) {
             return t && t->defined() ? std::optional<at::Tensor>(on_cpu(*t)) : std::nullopt;
           };
           auto [o, mean, rstd] =
               at::native_batch_norm(on_cpu(x), c(w), c(b), c(rm), c(rv), training, momentum, eps);
           return std::make_tuple(o.to(x.device()), mean.to(x.device()), rstd.to(x.device()));
         });
  // These depend on the kind of the device.
  for (auto name : {"convolution", "convolution_backward", "convolution_overrideable",
                    "convolution_backward_overrideable"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
  m.impl("record_stream", [](at::Tensor&, c10::Stream) {});
}

TORCH_LIBRARY(simulated_cuda, m) {
  m.def("stats", []() -> std::vector<int64_t> {
    return {in_use, peak, n_allocs, h2d, h2d_bytes, d2h, d2h_bytes, syncs, launches};
  });
  m.def("reset", []() {
    peak = int64_t(in_use);
    n_allocs = h2d = h2d_bytes = d2h = d2h_bytes = syncs = launches = 0;
    std::lock_guard<std::mutex> hold(lock);
    by_op.clear();
  });
  m.def("limit", [](int64_t n) { most = n; });
  m.def("fail_after", [](int64_t n) { fail_after = n; });
  m.def("current", []() -> int64_t { return current; });
  m.def("set_current", [](int64_t i) { current = c10::DeviceIndex(i); });
  m.def("total", []() -> int64_t { return most; });
  m.def("ops", []() -> std::vector<std::string> {
    std::lock_guard<std::mutex> hold(lock);
    std::vector<std::string> lines;
    for (auto& p : by_op) lines.push_back(std::to_string(p.second) + " " + p.first);
    return lines;
  });
}
