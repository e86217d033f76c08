// bounce -- notices about any mail, for anybody, after any reply: always a multipart/report that can be mailed.
#include "../../Relay/Bounce.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "fuzz.hpp"

using namespace Net::SMTP;
using fuzz::require, fuzz::same;

namespace {

// ---- a reader of MIME of its own ----

std::vector<std::string_view> lines(std::string_view text) {
    std::vector<std::string_view> out;
    while (!text.empty()) {
        const auto end = text.find("\r\n");
        require(end != text.npos, "every line has its end",
                text.substr(text.size() - std::min<std::size_t>(80, text.size())));
        out.push_back(text.substr(0, end));
        text.remove_prefix(end + 2);
    }
    return out;
}

struct Entity {
    std::multimap<std::string, std::string> fields;  // by name in small letters, unfolded
    std::vector<std::string_view> body;
    const std::string& field(const std::string& name) const {
        static const std::string none;
        require(fields.count(name) < 2, "a field is there once", name);
        const auto found = fields.find(name);
        return found == fields.end() ? none : found->second;
    }
};

// A header section; `all` becomes what is behind it.
Entity take_fields(std::vector<std::string_view>& all) {
    Entity out;
    auto last = out.fields.end();
    while (!all.empty() && !all.front().empty()) {
        const auto line = all.front();
        all.erase(all.begin());
        if (line.front() == ' ' || line.front() == '\t') {
            require(last != out.fields.end(), "a field does not begin with a blank", line);
            last->second += line;
            continue;
        }
        const auto colon = line.find(':');
        require(colon != line.npos && colon > 0, "a line of a header is a field", line);
        for (const char c : line.substr(0, colon)) require(c > 32 && c < 127, "a field's name is a word", line);
        auto value = line.substr(colon + 1);
        value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
        last = out.fields.emplace(lower_case(line.substr(0, colon)), value);
    }
    if (!all.empty()) all.erase(all.begin());
    return out;
}

std::vector<Entity> parts(const std::vector<std::string_view>& body, const std::string& boundary) {
    std::vector<std::vector<std::string_view>> pieces;
    bool open = false, over = false;
    for (const auto line : body) {
        if (line == "--" + boundary + "--") {
            require(open && !over, "it ends once");
            over = true;
        } else if (line == "--" + boundary) {
            require(!over, "no part is behind the end");
            open = true;
            pieces.emplace_back();
        } else {
            require(!line.starts_with("--" + boundary), "no line begins as a boundary does", line);
            require(open || line.empty(), "nothing is in front of the parts", line);
            require(!over || line.empty(), "nothing is behind them", line);
            if (open && !over) pieces.back().push_back(line);
        }
    }
    require(over, "it ends");
    std::vector<Entity> out;
    for (auto& piece : pieces) {
        out.push_back(take_fields(piece));
        out.back().body = piece;
    }
    return out;
}

// ---- what a notice promises ----

void check_octets(std::string_view text, bool eight_bit) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        require(c != 0, "no NUL is in it");
        require(c < 128 || eight_bit, "it is ASCII where it does not say otherwise", i);
        if (c == '\r') require(i + 1 < text.size() && text[i + 1] == '\n', "no CR stands alone", i);
        if (c == '\n') require(i > 0 && text[i - 1] == '\r', "no LF stands alone", i);
    }
    for (const auto line : lines(text)) require(line.size() <= 998, "no line is too long", line);
}

void check_status(const Entity& part, const std::vector<const DeliveryStatus*>& about) {
    auto left = part.body;
    const auto head = take_fields(left);
    same(head.field("reporting-mta"), "dns; mx.test", "it says who reports");
    for (const auto* one : about) {
        require(!left.empty(), "each recipient has a group of fields");
        const auto group = take_fields(left);
        const auto action = group.field("action"), status = group.field("status"),
                   final = group.field("final-recipient");
        require(final.starts_with("rfc822;") || final.starts_with("utf-8;"), "it says of whom", final);
        same(action == "failed", one->action == DeliveryAction::failed, "and what became of it");
        require(valid_status(status), "by a status", status);
        const bool well = one->action == DeliveryAction::delivered || one->action == DeliveryAction::relayed;
        same(status[0] == '2', well, "that does not contradict it");
        for (const auto& [name, value] : group.fields)
            require(name == "original-recipient" || name == "final-recipient" || name == "action" || name == "status" ||
                        name == "remote-mta" || name == "diagnostic-code" || name == "last-attempt-date" ||
                        name == "will-retry-until",
                    "nothing that strangers said is a field", name, value);
    }
    require(left.empty() || (left.size() == 1 && left.front().empty()), "there is no other group");
}

void check(const QueuedMail& notice, const QueueTask& mail, const std::vector<const DeliveryStatus*>& about,
           const std::string& text) {
    const auto all = notice.text.view();
    const bool eight_bit = notice.from.body == BodyType::eight_bit_mime;
    check_octets(all, eight_bit);
    require(notice.from.null() && !notice.from.unset(), "it has no sender that could be answered");
    same(notice.to.size(), std::size_t(1), "it goes to one");
    require(same_mailbox(notice.to.front(), mail.from), "which is the sender", notice.to.front().str());
    require(notice.from.smtputf8 == mail.from.utf8(), "by SMTPUTF8 where its address wants it");
    require(all.size() < text.size() * 3 + mail.head.size() + (256 << 10), "it has a size", all.size());

    auto rest = lines(all);
    const auto header = take_fields(rest);
    for (const auto* name :
         {"from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-type"})
        require(!header.field(name).empty(), "it has the fields of a mail", name);
    same(header.field("to"), mail.from.str(), "to the sender");
    for (const auto& [name, value] : header.fields)
        require(name == "from" || name == "to" || name == "subject" || name == "date" || name == "message-id" ||
                    name == "in-reply-to" || name == "references" || name == "auto-submitted" ||
                    name == "mime-version" || name.starts_with("content-"),
                "nothing that strangers said is a field", name, value);
    const auto& type = header.field("content-type");
    require(type.starts_with("multipart/report; report-type=delivery-status;"), "it is a report", type);
    const auto begin = type.find("boundary=\"");
    require(begin != type.npos && type.ends_with('"'), "with a boundary", type);
    const auto boundary = type.substr(begin + 10, type.size() - begin - 11);
    require(!boundary.empty() && boundary.size() <= 70, "that is no longer than RFC 2046 allows", boundary);

    const auto found = parts(rest, boundary);
    require(found.size() == 2 || found.size() == 3, "it has three parts, or two", found.size());
    require(found[0].field("content-type").starts_with("text/plain"), "one for people", found[0].field("content-type"));
    const auto& status = found[1].field("content-type");
    require(status == "message/delivery-status" || status == "message/global-delivery-status", "one for programs",
            status);
    check_status(found[1], about);
    for (const auto& part : found) {
        const auto& encoding = part.field("content-transfer-encoding");
        if (encoding != "8bit")
            for (const auto line : part.body)
                for (const char c : line) require(static_cast<unsigned char>(c) < 128, "8-bit where it is said", line);
        if (encoding == "quoted-printable")
            for (const auto line : part.body) require(line.size() <= 76, "its lines are short (RFC 2045 6.7)", line);
    }
}

}  // namespace

void fuzz::run(Input input) {
    const auto how = input.octet(), what = input.octet(), count = input.octet();
    const auto take = [&] { return std::string(input.until('\xFF')); };
    QueueTask mail;
    mail.id = "4XYZ-1";
    mail.message = 1;
    mail.arrived = QueueTime(std::chrono::hours(24 * 365 * 50));
    const auto sender = Address::parse(std::string(input.until('\xFF')), true);
    mail.from = Sender(how & 1 || !sender || sender->domain.empty() ? "a@example.org" : sender->str());
    if (how & 2) mail.from.ret = Return::full;
    if (how & 4) mail.from.envid = take();
    if (how & 8) mail.from.body = BodyType::binary_mime;
    if (how & 16) mail.head = "Received: from x\r\n";
    std::vector<DeliveryStatus> all;
    for (int i = 0; i <= count % 3; ++i) {
        DeliveryStatus one;
        // Anything: what a program calls a recipient has passed no grammar.
        one.recipient.local = take();
        one.recipient.domain = what & 1 ? take() : "example.net";
        if (what & 2) one.recipient.orcpt = OriginalRecipient{take(), take()};
        if (what & 4) one.recipient.notify.success = one.recipient.notify.delay = true;
        one.action = DeliveryAction((what >> 3) % 4);
        const int codes[] = {550, 451, 250, 0, 700, 599};
        one.reply = {codes[(how >> 5) % 6], take(), take()};
        one.host = what & 32 ? take() : "";
        if (what & 64) one.last_attempt = mail.arrived;
        if (what & 128) one.retry_until = mail.arrived;
        all.push_back(one);
    }
    const auto text = std::string(input.rest());
    const NoticeFrom us{"mx.test", how & 128 ? 100U : 1U << 20};
    const auto notice = delivery_notice(us, mail, Message(text), all, mail.arrived);
    std::vector<const DeliveryStatus*> about;
    for (const auto& one : all)
        if (wants_notice(mail.from, one.recipient, one.action)) about.push_back(&one);
    same(notice.has_value(), !about.empty(), "there is a notice where one is wanted");
    if (notice) check(*notice, mail, about, text);
}
