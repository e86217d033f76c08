#include "Bounce.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "../Server/Header.hpp"
#include "BounceParts.hpp"
#include "BounceText.hpp"

namespace Net::SMTP {

namespace {

// Whether it may stand in a field To.
bool mailbox(const Address& a) {
    const auto parsed = Address::parse(a.str());
    return parsed && !parsed->domain.empty() && parsed->local == a.local && parsed->domain == a.domain;
}

// By the worst that is told.
const char* subject(const std::vector<const DeliveryStatus*>& about) {
    const auto any = [&](DeliveryAction action) {
        return std::ranges::any_of(about, [=](auto* s) { return s->action == action; });
    };
    if (any(DeliveryAction::failed)) return "Your mail could not be delivered";
    if (any(DeliveryAction::delayed)) return "Your mail is delayed";
    if (any(DeliveryAction::relayed)) return "Your mail was passed on";
    return "Your mail was delivered";
}

// RFC 2046 5.1.1: no line of a part begins with it. Each try is another one, so that a text has an end to what it can
// hold.
std::string boundary_for(const std::string& id, std::span<const Part> parts) {
    for (std::uint64_t i = 0;; ++i) {
        auto boundary = "=_" + id + '_' + std::to_string(i);
        const auto holds = [&](const Part& p) { return p.body.find(boundary) != p.body.npos; };
        if (std::ranges::none_of(parts, holds)) return boundary;
    }
}

// RFC 3834 3.1.5: what it is an answer to, where that has a name that fits into a line.
std::string answer_to(const Message& text) {
    const auto id = text.header("Message-ID").value_or("");
    const auto plain = [](unsigned char c) { return c > 32 && c < 127; };
    const auto inner = std::string_view(id).substr(std::min<std::size_t>(1, id.size()));
    if (id.size() < 5 || id.size() > 900 || !id.starts_with('<') || inner.find('>') != inner.size() - 1 ||
        inner.find('<') != inner.npos || inner.find('@') == inner.npos || !std::ranges::all_of(id, plain))
        return "";
    return "In-Reply-To: " + id + "\r\nReferences: " + id + "\r\n";
}

std::string header(const Notice& notice, const std::string& id, const Message& text, QueueTime now,
                   const std::string& boundary, bool eight_bit) {
    const auto& host = notice.us.hostname;
    return "From: Mail Delivery System <MAILER-DAEMON@" + host + ">\r\nTo: " + notice.mail.from.str() +
           "\r\nSubject: " + subject(notice.about) + "\r\nDate: " + date_time(now) + "\r\nMessage-ID: <" + id + '@' +
           host + ">\r\n" + answer_to(text) +
           "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
           "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"" +
           boundary + "\"\r\n" + (eight_bit ? "Content-Transfer-Encoding: 8bit\r\n" : "");
}

void check(const std::string& hostname) {
    const auto fits = [](unsigned char c) {
        return c > 32 && c < 127 && c != '<' && c != '>' && c != '"' && c != '\\';
    };
    if (hostname.empty() || hostname.size() > 255 || !std::ranges::all_of(hostname, fits))
        throw std::invalid_argument("delivery_notice: hostname: " + hostname);
}

}  // namespace

bool wants_notice(const Sender& from, const Recipient& about, DeliveryAction action) {
    const auto& wish = about.notify;
    if (from.null() || wish.never) return false;
    switch (action) {
        case DeliveryAction::failed: return wish.failure || !wish.said();
        case DeliveryAction::delayed: return wish.delay || !wish.said();
        case DeliveryAction::delivered:
        case DeliveryAction::relayed: break;
    }
    return wish.success;
}

std::optional<QueuedMail> delivery_notice(const NoticeFrom& us, const QueueTask& mail, const Message& text,
                                          std::span<const DeliveryStatus> statuses, QueueTime now) {
    check(us.hostname);
    Notice notice{us, mail, {}, mail.from.utf8()};
    for (const auto& s : statuses)
        if (wants_notice(mail.from, s.recipient, s.action)) notice.about.push_back(&s);
    if (notice.about.empty() || !mailbox(mail.from)) return std::nullopt;

    auto returned = returned_part(notice, text);
    std::vector<Part> parts{text_part(notice, returned.note), status_part(notice)};
    if (!returned.part.fields.empty()) parts.push_back(std::move(returned.part));
    const bool eight_bit = std::ranges::any_of(parts, &Part::eight_bit);

    QueuedMail out;
    out.id = new_queue_id();
    const auto boundary = boundary_for(out.id, parts);
    auto all = header(notice, out.id, text, now, boundary, eight_bit);
    for (const auto& part : parts) all += "\r\n--" + boundary + "\r\n" + part.fields + "\r\n" + part.body;
    all += "\r\n--" + boundary + "--\r\n";

    out.from = Sender("");
    out.from.smtputf8 = notice.utf8;
    out.from.body = eight_bit || notice.utf8 ? BodyType::eight_bit_mime : BodyType::seven_bit;
    out.to.emplace_back(mail.from.str());
    out.text = Message(std::move(all));
    out.arrived = out.due = now;
    return out;
}

}  // namespace Net::SMTP
