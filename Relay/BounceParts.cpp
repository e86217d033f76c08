#include "BounceParts.hpp"

#include <algorithm>
#include <string_view>

#include "../Server/Endpoint.hpp"
#include "../Server/Header.hpp"
#include "../Server/Utf8Address.hpp"
#include "BounceText.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t most_header_returned = 64 << 10;
constexpr std::size_t longest_told = 500;        // of what a host said, for people
constexpr std::size_t longest_diagnostic = 900;  // and for programs
constexpr std::size_t longest_address = 900;     // so that it fits into a line

// ---- for people ----

// In the order they are told.
enum class Fate { refused, given_up, delayed, relayed, delivered };
constexpr Fate fates[] = {Fate::refused, Fate::given_up, Fate::delayed, Fate::relayed, Fate::delivered};

Fate fate(const DeliveryStatus& s) {
    switch (s.action) {
        case DeliveryAction::failed: return s.reply.temporary() ? Fate::given_up : Fate::refused;
        case DeliveryAction::delayed: return Fate::delayed;
        case DeliveryAction::relayed: return Fate::relayed;
        case DeliveryAction::delivered: break;
    }
    return Fate::delivered;
}

// "until Wed, 5 Nov 2025 07:00:00 +0000", the last of them.
std::string until(const Notice& notice) {
    std::optional<QueueTime> last;
    for (const auto* s : notice.about)
        if (s->action == DeliveryAction::delayed && s->retry_until)
            last = std::max(last.value_or(*s->retry_until), *s->retry_until);
    return last ? "until " + date_time(*last) : std::string("for some days");
}

// No promise to who has asked to hear of delays only.
std::string if_it_fails(const Notice& notice) {
    const auto silent = [&](const DeliveryStatus* s) {
        return s->action == DeliveryAction::delayed &&
               !wants_notice(notice.mail.from, s->recipient, DeliveryAction::failed);
    };
    return std::ranges::any_of(notice.about, silent) ? "" : " If it fails for good you will be told.";
}

std::string paragraph(Fate fate, const Notice& notice) {
    const auto arrived = date_time(notice.mail.arrived);
    const auto mail = "Your mail of " + arrived + ' ';
    switch (fate) {
        case Fate::refused:
            return mail +
                   "could not be delivered to the recipients below. It will not be tried again. If they still "
                   "are to have it, mend what is said of each, or ask whoever is responsible there, and send "
                   "it anew.";
        case Fate::given_up:
            return mail +
                   "could not be delivered to the recipients below, though it was tried again and again since "
                   "then. Now it is given up: if they still are to have it, send it anew.";
        case Fate::delayed:
            return mail + "has not been delivered yet to the recipients below. It will be tried again " +
                   until(notice) + ". You need do nothing now, and above all not send it anew." + if_it_fails(notice);
        case Fate::relayed:
            return mail +
                   "was passed on for the recipients below to a mail system that does not tell what becomes "
                   "of it. You need do nothing; that it has arrived you will not be told.";
        case Fate::delivered: break;
    }
    return mail + "was delivered to the recipients below. You need do nothing.";
}

std::string told(const DeliveryStatus& s) {
    const auto& original = s.recipient.orcpt;
    const auto address = plain_address(s.recipient.str(), longest_told, true);
    const auto meant =
        original ? plain_address(utf8_address_decode(original->address), longest_told, true) : std::string();
    auto out = "  <" + address + '>' + (meant.empty() || meant == address ? "" : ", for <" + meant + '>') + "\r\n";
    const auto who = one_line(s.host, longest_told, true);
    const auto what = one_line(s.reply.str(), longest_told, true);
    if (s.reply.code == 0) return out;
    return out + folded("      ", (who.empty() ? "" : who + ": ") + what, "      ");
}

// ---- for programs ----

std::string dated_field(const char* name, QueueTime when) {
    return when == QueueTime() ? "" : std::string(name) + ": " + date_time(when) + "\r\n";
}

// RFC 3464 2.1.2 has a type and an address. "" where there is no address.
std::string address_field(std::string name, std::string_view type, const std::string& address, bool utf8) {
    const bool others = !all_ascii(address) || same_text(type, "utf-8");
    const auto decoded = others ? utf8_address_decode(address) : address;
    const auto value = others && !utf8 ? utf8_address_encode(decoded, false, longest_address)
                                       : plain_address(decoded, longest_address, utf8);
    if (value.empty()) return "";
    name.append(": ").append(others ? "utf-8" : type).append(";");
    return name + (name.size() + value.size() < 76 ? " " : "\r\n ") + value + "\r\n";
}

std::string original_field(const Recipient& to, bool utf8) {
    if (!to.orcpt) return "";
    const auto fits = [](unsigned char c) { return c > 32 && c < 127 && c != ';' && c != '(' && c != ')'; };
    const auto& type = to.orcpt->type;
    const bool known = !type.empty() && type.size() <= 60 && std::ranges::all_of(type, fits);
    return known ? address_field("Original-Recipient", type, to.orcpt->address, utf8) : "";
}

// RFC 3463: the class says what became of it, whatever else was said.
std::string status(const DeliveryStatus& s) {
    const bool well = s.action == DeliveryAction::delivered || s.action == DeliveryAction::relayed;
    const bool later = s.action == DeliveryAction::delayed || s.reply.temporary();
    const std::string kind(1, well ? '2' : later ? '4' : '5');
    const bool known = valid_status(s.reply.status) && s.reply.status[0] == char('0' + s.reply.code / 100);
    return kind + (known ? s.reply.status.substr(1) : ".0.0");
}

// Of "mx.example.org[192.0.2.1]:25" the name, of "192.0.2.1:25" the literal; "" of what is no host's.
std::string remote(std::string_view host) {
    const auto colon = host.rfind(':');
    const auto port = colon == host.npos ? "" : host.substr(colon + 1);
    if (port.empty() || port.find_first_not_of("0123456789") != port.npos) return "";
    auto name = host.substr(0, colon);
    const auto bracket = name.find('[');
    if (bracket == 0 && name.ends_with(']')) name = name.substr(1, name.size() - 2);
    else name = name.substr(0, bracket);
    const auto octets = address_octets(name).size();
    if (octets > 0) return (octets == 4 ? "[" : "[IPv6:") + std::string(name) + ']';
    const auto fits = [](unsigned char c) { return c > 32 && c < 127 && c != '/' && c != ':' && c != ';'; };
    return name.size() <= 255 && std::ranges::all_of(name, fits) ? std::string(name) : "";
}

std::string_view word(DeliveryAction action) {
    switch (action) {
        case DeliveryAction::failed: return "failed";
        case DeliveryAction::delayed: return "delayed";
        case DeliveryAction::relayed: return "relayed";
        case DeliveryAction::delivered: break;
    }
    return "delivered";
}

std::string fields_of(const DeliveryStatus& s, bool utf8) {
    auto out = original_field(s.recipient, utf8);
    const auto final = address_field("Final-Recipient", "rfc822", s.recipient.str(), utf8);
    out += final.empty() ? "Final-Recipient: rfc822; ?\r\n" : final;
    out.append("Action: ").append(word(s.action)).append("\r\nStatus: ").append(status(s)).append("\r\n");
    if (const auto host = remote(s.host); !host.empty()) out += "Remote-MTA: dns; " + host + "\r\n";
    if (s.reply.code >= 200 && s.reply.code <= 599)
        out += folded(s.host.empty() ? "Diagnostic-Code: x-net-smtp; " : "Diagnostic-Code: smtp; ",
                      one_line(s.reply.str(), longest_diagnostic, utf8), " ");
    out += dated_field("Last-Attempt-Date", s.last_attempt);
    if (s.action == DeliveryAction::delayed && s.retry_until) out += dated_field("Will-Retry-Until", *s.retry_until);
    return out;
}

// ---- what is returned ----

// Whether a line, without its end, is a field's first.
bool begins_field(std::string_view line) {
    const auto name = line.substr(0, line.find(':'));
    return !name.empty() && name.size() < line.size() &&
           std::ranges::all_of(name, [](unsigned char c) { return c > 32 && c != 127; });
}

// Appends lines of a header section to `out` as far as it goes, each with CRLF and nothing that can't be mailed. What
// is neither a field nor goes on with one is the text already, which nobody has asked for. True: it ends here.
bool take_header(std::string_view text, std::string& out) {
    for (bool any = false; !text.empty(); any = true) {
        const auto end = std::min(text.find('\n'), text.size());
        auto one = text.substr(0, end);
        if (one.ends_with('\r')) one.remove_suffix(1);
        const bool goes_on = any && (one.starts_with(' ') || one.starts_with('\t'));
        if (!goes_on && !begins_field(one)) return true;
        for (const char c : one) out += c == '\0' ? '?' : c == '\r' ? ' ' : c;
        out += "\r\n";
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return false;
}

std::string start_of(const Message& text, std::size_t size) {
    std::string out(std::min<std::uint64_t>(size, text.size()), '\0');
    out.resize(text.read(0, out.data(), out.size()));
    return out;
}

// The header section, and whether that is all of it.
std::pair<std::string, bool> header_section(const QueueTask& mail, const Message& text) {
    auto start = mail.head.substr(0, most_header_returned);
    start += start_of(text, most_header_returned - start.size());
    bool whole = mail.head.size() + text.size() <= start.size();
    const auto last = start.rfind('\n');
    if (!whole && last != start.npos) start.resize(last + 1);
    std::string out;
    whole |= take_header(start, out);
    return {std::move(out), whole};
}

Returned header_part(const Notice& notice, const Message& text) {
    const auto [section, whole] = header_section(notice.mail, text);
    Returned out;
    if (section.empty()) return out;
    out.note = whole ? "The header of your mail is returned with this."
                     : "Of the header of your mail the first 64 KiB are returned with this.";
    const auto octets = look_at(section);
    if (!octets.eight_bit && octets.mailable()) {
        out.part = {"Content-Type: text/rfc822-headers\r\n", section, false};
    } else if (notice.utf8 && octets.mailable() && valid_utf8(section)) {
        out.part = {"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n", section, true};
    } else {
        out.part = {"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n",
                    quoted_printable(section), false};
    }
    return out;
}

// All of it, as it came; a note and nothing else where that can't be sent.
Returned whole_part(const Notice& notice, const Message& text) {
    const auto& mail = notice.mail;
    Returned out;
    if (mail.head.size() + text.size() > notice.us.most_returned) {
        out.note = "Your mail is too long to be returned whole.";
        return out;
    }
    auto all = mail.head + start_of(text, std::size_t(text.size()));
    const auto octets = look_at(all);
    if (mail.from.body == BodyType::binary_mime || !octets.mailable()) {
        out.note = "Your mail holds what can't be returned in a notice.";
        return out;
    }
    std::string header;
    take_header(all, header);
    const bool global = !all_ascii(header) && valid_utf8(header);
    out.note = "Your mail is returned with this.";
    out.part.fields = global ? "Content-Type: message/global\r\n" : "Content-Type: message/rfc822\r\n";
    if (octets.eight_bit) out.part.fields += "Content-Transfer-Encoding: 8bit\r\n";
    out.part.body = std::move(all);
    out.part.eight_bit = octets.eight_bit;
    return out;
}

}  // namespace

std::string date_time(QueueTime when) { return date_time(std::chrono::system_clock::to_time_t(when)); }

Returned returned_part(const Notice& notice, const Message& text) {
    // RFC 3461 4.3: RET is about failures; of other things the header tells enough.
    const bool failed = std::ranges::any_of(notice.about, [](auto* s) { return s->action == DeliveryAction::failed; });
    if (!failed || notice.mail.from.ret != Return::full) return header_part(notice, text);
    auto whole = whole_part(notice, text);
    if (!whole.part.fields.empty()) return whole;
    auto header = header_part(notice, text);
    header.note = whole.note + (header.note.empty() ? "" : ' ' + header.note);
    return header;
}

Part text_part(const Notice& notice, const std::string& note) {
    auto text = folded("", "This is the mail system of " + notice.us.hostname + '.', "");
    for (const auto kind : fates) {
        bool any = false;
        for (const auto* s : notice.about) {
            if (fate(*s) != kind) continue;
            if (!any) text += "\r\n" + folded("", paragraph(kind, notice), "") + "\r\n";
            any = true;
            text += told(*s);
        }
    }
    text += "\r\n" + folded("",
                            (note.empty() ? "" : note + ' ') + "Its number here was " +
                                one_line(notice.mail.id, 255, false) + '.',
                            "");
    if (all_ascii(text)) return {"Content-Type: text/plain; charset=us-ascii\r\n", std::move(text), false};
    return {"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n",
            quoted_printable(text), false};
}

Part status_part(const Notice& notice) {
    const auto& mail = notice.mail;
    auto text = "Reporting-MTA: dns; " + notice.us.hostname + "\r\n";
    const auto id = mail.from.envid ? one_line(*mail.from.envid, longest_diagnostic, false) : std::string();
    if (!id.empty()) text += folded("Original-Envelope-Id: ", id, " ");
    text += dated_field("Arrival-Date", mail.arrived);
    for (const auto* s : notice.about) text += "\r\n" + fields_of(*s, notice.utf8);
    if (!notice.utf8) return {"Content-Type: message/delivery-status\r\n", std::move(text), false};
    const bool eight_bit = !all_ascii(text);
    return {std::string("Content-Type: message/global-delivery-status\r\n") +
                (eight_bit ? "Content-Transfer-Encoding: 8bit\r\n" : ""),
            std::move(text), eight_bit};
}

}  // namespace Net::SMTP
