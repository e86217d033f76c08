#include "Header.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "Address.hpp"

namespace Net::SMTP {

namespace {

// RFC 5322 3.6.8
bool field_name(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return c > 32 && c < 127; });
}

bool blank(char c) { return c == ' ' || c == '\t'; }

// What may stand in a Message-ID, right of the '@': a host name or an address in brackets.
std::string id_right(std::string_view hostname) {
    std::string out(hostname.substr(0, 255));
    std::ranges::replace_if(
        out,
        [](char c) {
            const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
            return !letter && std::string_view(".-_:[]").find(c) == std::string_view::npos;
        },
        '-');
    return out;
}

}  // namespace

std::string_view header_part(const Message& message, std::string& room) {
    if (message.sunk()) return {};
    if (!message.spooled()) return message.view().substr(0, most_header);
    room.resize(std::size_t(std::min<std::uint64_t>(message.size(), most_header)));
    return {room.data(), message.read(0, room.data(), room.size())};
}

std::string_view FieldFilter::feed(std::string_view text, std::string& kept) {
    while (!text.empty() && !over_) {
        if (line_begins_) begin_line(text.front(), kept);
        if (over_) break;
        const auto line = field_ == Field::unknown ? 1 : std::min(text.find('\n'), text.size() - 1) + 1;
        if (field_ == Field::unknown) {
            held_ += text.front();
            field_ = decide();
            if (field_ == Field::stays) kept += held_;
            if (field_ != Field::unknown) held_.clear();
        } else if (field_ == Field::stays) {
            kept += text.substr(0, line);
        }
        line_begins_ = text[line - 1] == '\n';
        text.remove_prefix(line);
    }
    return text;
}

void FieldFilter::finish(std::string& kept) {
    kept += held_;
    held_.clear();
    over_ = true;
}

void FieldFilter::begin_line(char first, std::string& kept) {
    const bool first_line = std::exchange(first_line_, false);
    if (blank(first) && !first_line) return;  // the field goes on
    kept += held_;                            // it has no colon
    held_.clear();
    over_ = first == '\r' || first == '\n';
    field_ = Field::unknown;
}

FieldFilter::Field FieldFilter::decide() const {
    const auto size = held_.size();
    if (size <= name_.size())
        return same_text(held_, std::string_view(name_).substr(0, size)) ? Field::unknown : Field::stays;
    const char last = held_.back();
    if (last == ':' || size > most_name) return Field::goes;
    return blank(last) || last == '\r' || last == '\n' ? Field::unknown : Field::stays;
}

std::string date_time(std::time_t when) {
    std::tm t{};
    gmtime_r(&when, &t);
    static constexpr std::array days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr std::array months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char text[64];
    std::snprintf(text, sizeof text, "%s, %d %s %d %02d:%02d:%02d +0000", days[t.tm_wday], t.tm_mday, months[t.tm_mon],
                  t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
    return text;
}

std::optional<std::string> missing_fields(std::string_view text, bool all, std::string_view id,
                                          std::string_view hostname, std::time_t when, Wanted wanted) {
    all |= text.size() >= most_header;
    text = text.substr(0, most_header);
    bool date = !wanted.date, message_id = !wanted.message_id, header = false;
    const auto rest = each_field(text, [&](std::string_view name, std::string_view) {
        date |= same_text(name, "Date");
        message_id |= same_text(name, "Message-ID");
        header |= field_name(name);
    });
    if (rest.empty() && !all) return std::nullopt;

    std::string out;
    if (!date) out += "Date: " + date_time(when) + "\r\n";
    if (!message_id) out.append("Message-ID: <").append(id).append("@").append(id_right(hostname)).append(">\r\n");
    // A text that begins without a header is not to become one (RFC 5322 2.1).
    if (!header && rest.size() < text.size()) out += "\r\n";
    return out;
}

}  // namespace Net::SMTP
