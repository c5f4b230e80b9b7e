// Identity on its first operands, one for each result; the others are only waited for.
//
// XLA moves nothing across a custom call, so what is computed from the results cannot start before
// every operand exists. The caller aliases results to operands: then there is nothing to copy.

#include <cstddef>
#include <cstring>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

ffi::Error fence(ffi::RemainingArgs operands, ffi::RemainingRets results) {
  if (operands.size() < results.size()) {
    return ffi::Error::InvalidArgument("a fence has fewer operands than results");
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto from = operands.get<ffi::AnyBuffer>(i);
    auto to = results.get<ffi::AnyBuffer>(i);
    if (from.has_error()) return from.error();
    if (to.has_error()) return to.error();
    const std::size_t bytes = from->size_bytes();
    if ((*to)->size_bytes() != bytes) {
      return ffi::Error::InvalidArgument("a result of a fence differs in size from its operand");
    }
    if (bytes != 0 && (*to)->untyped_data() != from->untyped_data()) {
      std::memcpy((*to)->untyped_data(), from->untyped_data(), bytes);
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(loomax_fence, fence, ffi::Ffi::Bind().RemainingArgs().RemainingRets());
