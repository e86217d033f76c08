// Latencies -- a histogram of durations in constant memory, exact to 1.6 %.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

class Latencies {
public:
    void add(std::uint64_t nanoseconds) {
        ++counts_[slot(nanoseconds)];
        ++total_;
    }

    void add(const Latencies& other) {
        for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
        total_ += other.total_;
    }

    // The duration in microseconds that the given share (0.5, 0.99) of all stayed within; 0 if there were none.
    [[nodiscard]] double quantile(double share) const {
        if (total_ == 0) return 0;
        const auto rank =
            std::max<std::uint64_t>(1, static_cast<std::uint64_t>(share * static_cast<double>(total_) + 0.5));
        std::uint64_t seen = 0;
        std::size_t i = 0;
        while ((seen += counts_[i]) < rank) ++i;
        return static_cast<double>(upper_bound(i)) / 1000;
    }

private:
    // 64 slots to each power of two; values below 64 have one of their own.
    static constexpr unsigned bits = 6;

    static std::size_t slot(std::uint64_t value) {
        const unsigned width = static_cast<unsigned>(std::bit_width(value));
        if (width <= bits) return value;
        const unsigned shift = width - bits - 1;
        return (std::size_t{shift} << bits) + (value >> shift);
    }

    static std::uint64_t upper_bound(std::size_t slot) {
        if (slot < (1U << bits)) return slot;
        const unsigned shift = static_cast<unsigned>(slot >> bits) - 1;
        return ((slot & ((1U << bits) - 1)) + (1U << bits) + 1) << shift;
    }

    std::array<std::uint64_t, (64 - bits + 1) << bits> counts_{};
    std::uint64_t total_ = 0;
};
