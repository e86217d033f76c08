#include "Memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace Net::SMTP {

namespace {
constexpr std::size_t mapped_from = 256 * 1024;
constexpr std::size_t huge_from = 4 << 20;  // from here on huge pages save most of the page faults
}  // namespace

bool Budget::take(std::uint64_t n) {
    auto used = used_.load(std::memory_order_relaxed);
    do {
        if (used > limit_ || n > limit_ - used) return false;
    } while (!used_.compare_exchange_weak(used, used + n, std::memory_order_relaxed));
    return true;
}

bool Block::grow(std::uint64_t most) {
    constexpr std::size_t page = 4096;
    const auto step = capacity_ == 0 ? smallest : capacity_ * 4;
    const auto pages = most > SIZE_MAX - page ? SIZE_MAX : (most + page - 1) / page * page;
    const auto larger = std::size_t(std::min<std::uint64_t>(step, pages));
    if (larger <= capacity_) return false;
    if (!budget_ || !budget_->take(larger - capacity_)) return false;
    void* grown = nullptr;
    if (larger < mapped_from) {
        grown = std::realloc(data_, larger);
    } else if (capacity_ < mapped_from) {
        grown = mmap(nullptr, larger, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (grown == MAP_FAILED) grown = nullptr;
        if (grown && data_) {
            std::memcpy(grown, data_, capacity_);
            std::free(data_);
        }
    } else {
        grown = mremap(data_, capacity_, larger, MREMAP_MAYMOVE);
        if (grown == MAP_FAILED) grown = nullptr;
    }
    if (!grown) {
        budget_->give(larger - capacity_);
        return false;
    }
    if (larger >= huge_from) madvise(grown, larger, MADV_HUGEPAGE);
    data_ = static_cast<char*>(grown);
    capacity_ = larger;
    return true;
}

void Block::release() {
    if (!data_) return;
    if (capacity_ >= mapped_from) munmap(data_, capacity_);
    else std::free(data_);
    budget_->give(capacity_);
    data_ = nullptr;
    capacity_ = 0;
}

}  // namespace Net::SMTP
