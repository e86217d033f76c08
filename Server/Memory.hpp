// Memory -- a budget that many sessions share, and growing blocks taken from it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace Net::SMTP {

// Octets that may be in use at once. Any thread.
class Budget {
public:
    explicit Budget(std::uint64_t limit) : limit_(limit) {}
    bool take(std::uint64_t n);
    void give(std::uint64_t n) { used_.fetch_sub(n, std::memory_order_relaxed); }
    std::uint64_t used() const { return used_.load(std::memory_order_relaxed); }

private:
    const std::uint64_t limit_;
    std::atomic<std::uint64_t> used_{0};
};

// Contiguous memory that grows by the factor four, from 16 KiB; from 256 KiB on by moving pages, not octets. What it
// holds at the front survives growing. One thread at a time.
class Block {
public:
    // Without a budget it cannot grow.
    explicit Block(std::shared_ptr<Budget> budget) : budget_(std::move(budget)) {}
    ~Block() { release(); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    char* data() const { return data_; }
    std::size_t capacity() const { return capacity_; }

    static constexpr std::size_t smallest = 16 * 1024;
    // One step more, but not over `most` (in whole pages). False, and nothing has changed, when that is no growth, or
    // the budget or the system has no more.
    bool grow(std::uint64_t most = UINT64_MAX);
    void release();

private:
    std::shared_ptr<Budget> budget_;
    char* data_ = nullptr;
    std::size_t capacity_ = 0;
};

}  // namespace Net::SMTP
