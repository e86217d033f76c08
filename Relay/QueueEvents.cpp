#include "QueueEvents.hpp"

#include <algorithm>

namespace Net::SMTP {

std::uint64_t Event::Queued::lines() const {
    std::uint64_t lines = 0, offset = 0;
    std::string piece(64 * 1024, '\0');
    while (const auto n = message.read(offset, piece.data(), piece.size())) {
        lines += std::uint64_t(std::count(piece.begin(), piece.begin() + std::ptrdiff_t(n), '\n'));
        offset += n;
    }
    return lines;
}

}  // namespace Net::SMTP
