#include "International.hpp"

#include <algorithm>

#include "../Server/Address.hpp"
#include "../Server/Header.hpp"

namespace Net::SMTP {

namespace {

bool ascii(std::string_view text) {
    return std::ranges::none_of(text, [](unsigned char c) { return c > 127; });
}

// Shows all of it to `fine`, piece by piece, until that says no; false then, and when it can't be read to its end.
template <class Fine>
bool all(const Message& message, Fine fine) {
    std::string buffer(std::size_t(64) << 10, '\0');
    for (std::uint64_t offset = 0; offset < message.size();) {
        const auto count = message.read(offset, buffer.data(), buffer.size());
        if (count == 0 || !fine(std::string_view(buffer.data(), count))) return false;
        offset += count;
    }
    return true;
}

bool all_ascii(const Message& message) { return all(message, ascii); }

// Whether octets are lines of a text, as they come.
class Lines {
public:
    bool take(std::string_view octets) {
        for (const char c : octets) {
            if ((c == '\n') != cr_ || c == '\0') return false;
            length_ = c == '\n' ? 0 : length_ + 1;
            cr_ = c == '\r';
            if (length_ > longest + (cr_ ? 1 : 0)) return false;
        }
        return true;
    }
    bool ended() const { return length_ == 0; }

private:
    static constexpr std::size_t longest = 998;  // RFC 5321 4.5.3.1.6, without CRLF
    std::size_t length_ = 0;
    bool cr_ = false;
};

bool text(const std::string& head, const Message& message) {
    Lines lines;
    return lines.take(head) && all(message, [&](std::string_view octets) { return lines.take(octets); }) &&
           lines.ended();
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

BodyType needed_body(BodyType announced, const std::string& head, const Message& message) {
    using enum BodyType;
    if (announced == seven_bit) return seven_bit;
    if (announced == binary_mime && !text(head, message)) return binary_mime;
    return ascii(head) && all_ascii(message) ? seven_bit : eight_bit_mime;
}

}  // namespace Net::SMTP
