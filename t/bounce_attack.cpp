// bounce_attack -- whatever strangers say, a notification is one: taken apart strictly, it has what it should have.
#include <map>
#include <random>

#include "notice.hpp"
#include "sanitized.hpp"

using namespace test;

namespace {

using Random = std::mt19937;

std::size_t up_to(Random& random, std::size_t most) {
    return std::uniform_int_distribution<std::size_t>(0, most)(random);
}

// Octets that some program might take for something.
const std::vector<std::string> spices{"\r\n",
                                      "\n",
                                      "\r",
                                      "\r\n\r\n",
                                      "\n\n",
                                      std::string(1, '\0'),
                                      " ",
                                      "\t",
                                      "  ",
                                      ":",
                                      ";",
                                      "=",
                                      "=\r\n",
                                      "==",
                                      "=20",
                                      "\"",
                                      "\\",
                                      "<",
                                      ">",
                                      "@",
                                      "(",
                                      ")",
                                      ".",
                                      "\r\n.\r\n",
                                      "\r\n--",
                                      "--",
                                      "--=_",
                                      "=_",
                                      "\xc3\xbc",
                                      "\xff",
                                      "\xe7\x94\xa8",
                                      "\xf0\x9f\x98\x80",
                                      "\xc2\x85",
                                      "\xe2\x80\xae",
                                      "\xed\xa0\x80",
                                      "\\x{FC}",
                                      "\\x{",
                                      "+41",
                                      "+",
                                      "\x1b[2J",
                                      "\x7f",
                                      "Action: delivered",
                                      "\r\nAction: delivered\r\n",
                                      "Content-Type: text/html",
                                      "\r\nX-Evil: y\r\n",
                                      "From ",
                                      "Message-ID: <1@b>\r\n",
                                      "Subject: ",
                                      "\r\n ",
                                      "\r\n\t"};

std::string words(Random& random, std::size_t most) {
    std::string out;
    for (auto left = up_to(random, most); left > 0; --left) {
        switch (up_to(random, 5)) {
            case 0: out += spices[up_to(random, spices.size() - 1)]; break;
            case 1: out += char(up_to(random, 255)); break;
            case 2: out.append(up_to(random, 20) == 0 ? up_to(random, 1200) : up_to(random, 12), 'x'); break;
            case 3: out += char(' ' + up_to(random, 94)); break;
            case 4: out += spices[up_to(random, spices.size() - 1)]; break;
            default: out += "word "; break;
        }
    }
    return out;
}

// The same in mails that are more often some.
std::string mail_text(Random& random) {
    std::string out;
    for (auto fields = up_to(random, 6); fields > 0; --fields) {
        auto value = words(random, 6);
        if (up_to(random, 3) > 0) std::erase_if(value, [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
        out += (up_to(random, 9) == 0 ? words(random, 2) : "X-" + std::to_string(fields)) + ": " + value + "\r\n";
    }
    if (up_to(random, 9) > 0) out += "\r\n";
    auto body = words(random, 60);
    if (up_to(random, 2) > 0) std::erase_if(body, [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
    return out + body;
}

DeliveryStatus status(Random& random) {
    DeliveryStatus s;
    s.recipient.local = up_to(random, 2) == 0 ? "c" : words(random, 4);
    s.recipient.domain = up_to(random, 2) == 0 ? "d.example" : words(random, 4);
    const std::string types[] = {"rfc822", "utf-8", "UTF-8", "x400", words(random, 2)};
    if (up_to(random, 1) == 0) s.recipient.orcpt = OriginalRecipient{types[up_to(random, 4)], words(random, 8)};
    s.recipient.notify.success = s.recipient.notify.failure = s.recipient.notify.delay = up_to(random, 3) > 0;
    s.action = DeliveryAction(up_to(random, 3));
    const int codes[] = {550, 451, 250, 0, -1, 999, 354, 421};
    s.reply = {codes[up_to(random, 7)], up_to(random, 1) == 0 ? "5.1.1" : words(random, 2), words(random, 40)};
    const std::string hosts[] = {"mx.example[192.0.2.1]:25", "", "[2001:db8::1]:25", words(random, 4),
                                 words(random, 2) + ":25"};
    s.host = hosts[up_to(random, 4)];
    if (up_to(random, 1) == 0) s.last_attempt = QueueTime(std::chrono::seconds(1762066800));
    if (up_to(random, 1) == 0) s.retry_until = QueueTime(std::chrono::seconds(1762066800));
    return s;
}

const std::vector<std::string> for_message{"Reporting-MTA", "Original-Envelope-Id", "Arrival-Date"};
const std::vector<std::string> for_recipient{
    "Original-Recipient", "Final-Recipient",   "Action",          "Status", "Remote-MTA",
    "Diagnostic-Code",    "Last-Attempt-Date", "Will-Retry-Until"};

void only(const Fields& fields, const std::vector<std::string>& names) {
    std::map<std::string, int> seen;
    for (const auto& [name, text] : fields) {
        must(std::ranges::find(names, name) != names.end(), "a field that is none of ours: " + name);
        must(++seen[name] == 1, name + " stands there twice");
        must(!text.empty(), name + " is empty");
    }
}

void one_round(unsigned seed) {
    Random random(seed);
    QueueTask mail;
    mail.id = up_to(random, 1) == 0 ? "QUEUEID" : words(random, 10);
    mail.from = Sender(up_to(random, 2) == 0 ? "j\xc3\xbcrgen@b.example" : "a@b.example");
    mail.from.ret = Return(up_to(random, 2));
    mail.from.body = BodyType(up_to(random, 2));
    if (up_to(random, 1) == 0) mail.from.envid = words(random, 8);
    if (up_to(random, 1) == 0) mail.head = "Received: by us;\r\n\tnow\r\n";
    mail.arrived = QueueTime(std::chrono::seconds(1762066800));
    const auto octets = mail_text(random);
    std::vector<DeliveryStatus> all(1 + up_to(random, 4));
    for (auto& s : all) s = status(random);
    std::size_t wanted = 0, failed = 0;
    for (const auto& s : all)
        if (wants_notice(mail.from, s.recipient, s.action)) {
            ++wanted;
            failed += s.action == DeliveryAction::failed;
        }

    const auto made =
        delivery_notice({"mx.example.net", up_to(random, 2) * 200}, mail, Message(octets), all, mail.arrived);
    must(made.has_value() == (wanted > 0), "made, or not, as nobody wanted");
    if (!made) return;
    const auto parts = parsed(*made);
    only(parts.fields, {"From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
                        "MIME-Version", "Content-Type", "Content-Transfer-Encoding"});
    only(parts.message, for_message);
    must(parts.recipients.size() == wanted, "another number of recipients");
    for (const auto& one : parts.recipients) {
        only(one, for_recipient);
        for (const auto* needed : {"Final-Recipient", "Action", "Status"}) value(one, needed);
        const auto code = value(one, "Status");
        must(Net::SMTP::valid_status(code), "no status: " + code);
    }
    must(Net::SMTP::valid_utf8(parts.text()), "the text for people is no UTF-8");
    for (const unsigned char c : parts.text())
        must(c >= 32 || c == '\r' || c == '\n', "a control in the text for people");
    if (parts.parts.size() < 3) return;
    const auto& returned = parts.parts[2];
    if (returned.type == "message/rfc822" || returned.type == "message/global") {
        must(failed > 0 && mail.from.ret == Return::full, "returned whole, and nobody has asked");
        must(returned.body == mail.head + octets, "returned, and changed");
    } else {
        must(returned.type == "text/rfc822-headers" || returned.type == "message/global-headers", returned.type);
        must(returned.decoded().find("\r\n\r\n") == std::string::npos, "more than a header");
        mail_lines(returned.body);
    }
}

}  // namespace

TEST_CASE("notifications by the thousand about whatever strangers say are each what they should be") {
    std::string trouble;
    for (unsigned seed = 1; seed <= (sanitized ? 500 : 3000) && trouble.empty(); ++seed) try {
            one_round(seed);
        } catch (const std::exception& e) {
            trouble = "seed " + std::to_string(seed) + ": " + e.what();
        }
    CHECK(trouble == "");
}

TEST_CASE("what takes them apart would see it if they were not") {
    QueueTask mail;
    mail.id = "QUEUEID";
    mail.from = Sender("a@b.example");
    mail.arrived = QueueTime(std::chrono::seconds(1762066800));
    DeliveryStatus s;
    s.recipient = Recipient("c@d.example");
    s.reply = {550, "5.1.1", "No such user"};
    auto made = delivery_notice({"mx.example.net"}, mail, Message("A: b\r\n\r\nx\r\n"), {{s}}, mail.arrived);
    REQUIRE(made);
    const std::string fine(made->text.view());
    CHECK_NOTHROW(parsed(*made));
    const auto spoilt = [&](const std::string& what, const std::string& by) {
        auto text = fine;
        const auto at = text.find(what);
        REQUIRE(at != text.npos);
        made->text = Message(text.replace(at, what.size(), by));
        return *made;
    };
    CHECK_THROWS(parsed(spoilt("No such", "No\nsuch")));
    CHECK_THROWS(parsed(spoilt("No such", "No\rsuch")));
    CHECK_THROWS(parsed(spoilt("No such", std::string("No\0", 3))));
    CHECK_THROWS(parsed(spoilt("No such", "\xc3\xbc")));
    CHECK_THROWS(parsed(spoilt("No such", std::string(999, 'x'))));
    CHECK_THROWS(parsed(spoilt("Action: ", "Action\r\n")));
    CHECK_THROWS(parsed(spoilt("A: b\r\n", "A: b\r\n\r\n" + fine.substr(fine.find("--=_"), 34))));
    CHECK_THROWS(parsed(spoilt("Status: ", "Status: 5.0.0\r\n\r\n\r\nStatus: ")));
    CHECK_THROWS(parsed(spoilt("message/delivery-status", "text/plain")));
}
