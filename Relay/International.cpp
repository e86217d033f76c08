#include "International.hpp"

#include <algorithm>

#include "../Server/Address.hpp"
#include "../Server/Header.hpp"

namespace Net::SMTP {

namespace {

bool ascii(std::string_view text) {
    return std::ranges::none_of(text, [](unsigned char c) { return c > 127; });
}

bool all_ascii(const Message& message) {
    std::string buffer(std::size_t(64) << 10, '\0');
    for (std::uint64_t offset = 0; offset < message.size();) {
        const auto count = message.read(offset, buffer.data(), buffer.size());
        if (count == 0 || !ascii({buffer.data(), count})) return false;
        offset += count;
    }
    return true;
}

// Whether it has parts with headers of their own.
bool composite(const Message& message) {
    const auto type = lower_case(message.header("Content-Type").value_or(""));
    return type.starts_with("multipart/") || type.starts_with("message/");
}

}  // namespace

bool international(const std::string& head, const Message& message) {
    if (!ascii(head)) return true;
    std::string room;
    const auto begin = header_part(message, room);
    const auto rest = each_field(begin, [](auto, auto) {});
    if (rest.empty() && begin.size() < message.size()) return true;
    if (!ascii(begin.substr(0, begin.size() - rest.size()))) return true;
    return composite(message) && !all_ascii(message);
}

}  // namespace Net::SMTP
