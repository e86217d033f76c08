// notice -- a delivery status notification taken apart, strictly: what no mail program should have to guess throws.
#pragma once

#include <doctest/doctest.h>

#include <Net/SMTP/Relay/Bounce.hpp>
#include <utility>

#include "peer.hpp"

namespace test {

using Net::SMTP::delivery_notice;
using Net::SMTP::DeliveryAction;
using Net::SMTP::DeliveryStatus;
using Net::SMTP::NoticeFrom;
using Net::SMTP::OriginalRecipient;
using Net::SMTP::QueuedMail;
using Net::SMTP::QueueTask;
using Net::SMTP::QueueTime;
using Net::SMTP::wants_notice;

using Fields = std::vector<std::pair<std::string, std::string>>;

inline void must(bool fine, const std::string& what) {
    if (!fine) throw std::runtime_error("notice: " + what);
}

inline bool ascii(std::string_view text) {
    return std::ranges::all_of(text, [](unsigned char c) { return c < 128; });
}

// Lines that end in CRLF, none longer than RFC 5322 allows, no NUL; without their ends.
inline std::vector<std::string> mail_lines(std::string_view text) {
    std::vector<std::string> out;
    while (!text.empty()) {
        const auto end = text.find("\r\n");
        must(end != text.npos, "the last line has no CRLF");
        must(end <= 998, "a line of " + std::to_string(end) + " octets");
        out.emplace_back(text.substr(0, end));
        must(out.back().find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos, "a lone CR or LF, or NUL");
        text.remove_prefix(end + 2);
    }
    return out;
}

// Whole fields, unfolded; nothing else.
inline Fields fields_of(std::string_view text) {
    Fields out;
    for (const auto& line : mail_lines(text)) {
        must(line.find_first_not_of(" \t") != line.npos, "an empty line in a header");
        if (line.front() == ' ' || line.front() == '\t') {
            must(!out.empty(), "a header begins with a blank");
            out.back().second += line;
            continue;
        }
        const auto colon = line.find(": ");
        must(colon != line.npos && colon > 0, "no field: " + line);
        for (const unsigned char c : line.substr(0, colon)) must(c > 32 && c < 127 && c != ':', "no name: " + line);
        out.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
    return out;
}

inline std::string value(const Fields& fields, std::string_view name) {
    std::string found;
    int n = 0;
    for (const auto& [key, text] : fields)
        if (key == name) found = text, ++n;
    must(n <= 1, std::string(name) + " stands there twice");
    return found;
}

inline std::string unquoted_printable(std::string_view text) {
    std::string out;
    const auto digit = [](char c) {
        const auto at = std::string_view("0123456789ABCDEF").find(c);
        must(at != std::string_view::npos, "no digit in quoted-printable");
        return int(at);
    };
    for (const auto& line : mail_lines(text)) {
        must(line.size() <= 76, "a line of quoted-printable is too long");
        must(!line.ends_with(' ') && !line.ends_with('\t'), "a blank ends a line of quoted-printable");
        bool soft = false;
        for (std::size_t i = 0; i < line.size(); ++i) {
            must(line[i] == '\t' || (line[i] >= 32 && line[i] < 127), "what is not quoted");
            if (line[i] != '=') {
                out += line[i];
            } else if (i + 1 == line.size()) {
                soft = true;
            } else {
                must(i + 2 < line.size(), "half a digit");
                out += char(digit(line[i + 1]) * 16 + digit(line[i + 2]));
                i += 2;
            }
        }
        if (!soft) out += "\r\n";
    }
    return out;
}

struct NoticePart {
    Fields fields;
    std::string type;    // without parameters
    std::string coding;  // "7bit" where nothing is said
    std::string body;    // as it stands there
    std::string decoded() const { return coding == "quoted-printable" ? unquoted_printable(body) : body; }
};

struct ParsedNotice {
    Fields fields;
    std::vector<NoticePart> parts;
    Fields message;                  // of the status
    std::vector<Fields> recipients;  // of the status
    std::string text() const { return parts.at(0).decoded(); }
};

inline std::pair<Fields, std::string> header_and_body(std::string_view text) {
    const auto end = text.starts_with("\r\n") ? 0 : text.find("\r\n\r\n") + 2;
    must(end != text.npos + 2, "no empty line behind the header");
    return {fields_of(text.substr(0, end)), std::string(text.substr(end + 2))};
}

// Throws for whatever is not as RFC 2046, 6522, 3464 and 6533 have it, or could not be sent as `mail` says it can.
inline ParsedNotice parsed(const QueuedMail& mail) {
    const std::string all(mail.text.view());
    mail_lines(all);
    must(ascii(all) || mail.from.body == BodyType::eight_bit_mime, "8-bit octets, and nobody is told");
    ParsedNotice out;
    auto [fields, body] = header_and_body(all);
    out.fields = std::move(fields);
    const auto type = value(out.fields, "Content-Type");
    const auto at = type.find("boundary=\"");
    must(type.starts_with("multipart/report; report-type=delivery-status;") && at != type.npos, "not a report");
    const auto boundary = type.substr(at + 10, type.size() - at - 11);
    must(boundary.size() <= 70 && !boundary.empty(), "the boundary's size");
    for (const auto& [name, text] : out.fields) must(ascii(text) || mail.from.smtputf8, name + " is not ASCII");

    body.insert(0, "\r\n");  // what stands in front of a boundary belongs to it
    std::string_view rest = body;
    const auto delimiter = "\r\n--" + boundary;
    must(rest.starts_with(std::string_view(delimiter)), "something stands in front of the parts");
    bool eight_bit = false;
    while (!rest.starts_with(delimiter + "--")) {
        rest.remove_prefix(delimiter.size());
        must(rest.starts_with("\r\n"), "no line end behind a boundary");
        rest.remove_prefix(2);
        const auto end = rest.find(delimiter);
        must(end != rest.npos, "a part without an end");
        auto [part_fields, part_body] = header_and_body(rest.substr(0, end));
        NoticePart part{std::move(part_fields), "", "7bit", std::move(part_body)};
        const auto whole = value(part.fields, "Content-Type");
        part.type = whole.substr(0, whole.find(';'));
        if (const auto said = value(part.fields, "Content-Transfer-Encoding"); !said.empty()) part.coding = said;
        must(part.coding != "7bit" || ascii(part.body), "8-bit octets in a part that says 7bit");
        must(part.coding != "quoted-printable" || !part.type.starts_with("message/"), "RFC 2046 5.2 wants it plain");
        eight_bit |= part.coding == "8bit";
        out.parts.push_back(std::move(part));
        rest.remove_prefix(end);
    }
    must(rest == delimiter + "--\r\n", "something stands behind the parts");
    must(eight_bit == (value(out.fields, "Content-Transfer-Encoding") == "8bit"),
         "a part is 8bit and the whole is not");
    must(out.parts.size() == 2 || out.parts.size() == 3, "the number of parts");
    must(out.parts[0].type == "text/plain", "the first part is not for people");
    must(out.parts[1].type == (mail.from.smtputf8 ? "message/global-delivery-status" : "message/delivery-status"),
         "the second part is not for programs");

    std::string_view status = out.parts[1].body;
    for (bool first = true; !status.empty(); first = false) {
        const auto end = status.find("\r\n\r\n");
        const auto block = fields_of(status.substr(0, end == status.npos ? end : end + 2));
        (first ? out.message : out.recipients.emplace_back()) = block;
        status.remove_prefix(end == status.npos ? status.size() : end + 4);
        must(end == status.npos || !status.empty(), "an empty block ends the status");
    }
    return out;
}

}  // namespace test
