#include "Transfer.hpp"

#include <algorithm>

#include "../Server/Shared.hpp"
#include "International.hpp"

namespace Net::SMTP {

namespace {
using Clock = std::chrono::steady_clock;
}

Transfer::Transfer(HostWalk walk, Settings settings) : walk_(std::move(walk)), settings_(std::move(settings)) {}

Transfer::~Transfer() { close(); }

void Transfer::extend(Deadline end, std::shared_ptr<Shared> server) {
    settings_.end = end;
    settings_.server = server;
    walk_.extend(Shared::wait(server, end));
    if (session_) session_->extend(end, std::move(server));
}

bool Transfer::ready() const { return open_ && session_ && session_->alive(); }
bool Transfer::still_ready() const { return open_ && session_ && session_->quiet(); }

void Transfer::refused(const Reply& reply, bool by_host) {
    if (answered_ && !by_host) return;
    refusal_ = reply;
    replies_.clear();
    answered_ |= by_host;
}

void Transfer::named() {
    host_ = session_->host().str();
    tls_ = session_->tls();
}

std::unique_ptr<Session> Transfer::connected(const Upstream& upstream) const {
    auto session = std::make_unique<Session>(upstream, settings_.hostname, settings_.patience, settings_.end,
                                             settings_.server, settings_.security);
    if (settings_.failures && session->unreachable()) settings_.failures->failed(upstream.endpoint, *session->failed());
    else if (settings_.failures && session->reached()) settings_.failures->reached(upstream.endpoint);
    return session;
}

// Whether somebody could not connect to it a moment ago; what was said then is said now.
bool Transfer::avoided(const Upstream& upstream) {
    const auto why = settings_.failures ? settings_.failures->failure(upstream.endpoint) : std::nullopt;
    if (why && !answered_) {
        host_ = upstream.str();
        tls_.clear();
        refused(*why, false);
    }
    return why.has_value();
}

// The next host that can be talked to.
bool Transfer::connect() {
    bool tried = answered_ || !host_.empty();
    while (!login_refused_ && Clock::now() < settings_.end) {
        const auto upstream = walk_.next();
        if (!upstream) break;
        tried = true;
        session_ = settings_.cache ? settings_.cache->take(*upstream, settings_.hostname, settings_.security) : nullptr;
        reused_ = session_ != nullptr;
        if (reused_) {
            session_->extend(settings_.end, settings_.server);
            return true;
        }
        if (avoided(*upstream)) continue;
        session_ = connected(*upstream);
        if (!session_->failed()) return true;
        if (session_->reached() || !answered_) named();
        login_refused_ = session_->login_refused();
        refused(*session_->failed(), session_->reached());
        session_.reset();
    }
    if (!tried) refused(walk_.failure(), false);
    return false;
}

// Whether it was asked for with an ASCII sender, and the present host does not offer it.
bool Transfer::lacks_utf8() const {
    return from_.smtputf8 && !from_.utf8() && session_ && !session_->offer().extensions.smtputf8;
}

// What the sender has announced of its text, as far as the present host offers it.
BodyType Transfer::body() const {
    const auto& x = session_->offer().extensions;
    if (from_.body == BodyType::binary_mime && x.binary_mime && x.chunking) return from_.body;
    return x.eight_bit_mime ? std::min(from_.body, BodyType::eight_bit_mime) : BodyType::seven_bit;
}

// MAIL and RCPT to the present host. Whether the mail needs what is left out all the same, suit() sees.
Reply Transfer::envelope(std::span<const Recipient> to, std::vector<Reply>& replies, bool and_data) {
    auto from = from_;
    if (lacks_utf8()) from.smtputf8 = false, and_data = false;
    if (body() != from.body) from.body = body(), and_data = false;
    return session_->mail(from, size_, to, replies, and_data);
}

// One host's answers to the envelope. `later`: another host may do better.
Transfer::Said Transfer::ask(std::span<const Recipient> to, bool and_data) {
    std::vector<Reply> replies;
    // BDAT needs no DATA, and must not go before every reply is there: whoever mistakes its octets for commands after a
    // refusal would run them.
    and_data = and_data && !(settings_.chunking && session_->offer().extensions.chunking);
    auto mail = envelope(to, replies, and_data);
    if (reused_ && (session_->failed() || !mail.positive())) {
        // It had grown old, or has had enough mails. Nothing was sent that counts: the same host once more, on a
        // connection of its own.
        const auto upstream = session_->host();
        reused_ = false;
        session_->leave();
        session_ = connected(upstream);
        mail = envelope(to, replies, and_data);
    }
    named();
    login_refused_ = session_->login_refused();
    if (!mail.positive() || session_->failed()) {
        const auto said = session_->failed() ? *session_->failed() : mail;
        refused(said, true);
        open_ = true;  // of recipients that were taken all the same, RSET frees the next mail
        close();
        return said.permanent() ? Said::never : Said::later;
    }
    answered_ = open_ = true;
    replies_ = std::move(replies);
    const bool enough = settings_.partial ? std::ranges::any_of(replies_, &Reply::positive)
                                          : std::ranges::all_of(replies_, &Reply::positive);
    if (enough) return Said::yes;
    return std::ranges::any_of(replies_, &Reply::permanent) ? Said::never : Said::later;
}

void Transfer::open(const Sender& from, std::uint64_t size, std::vector<Recipient> to, bool and_data) {
    from_ = from;
    size_ = size;
    to_ = std::move(to);
    while (connect()) {
        const auto said = ask(to_, and_data);
        if (said == Said::yes) return;
        close();
        if (said == Said::never) break;
    }
    if (replies_.empty()) replies_.assign(to_.size(), refusal_);
}

Reply Transfer::begin(const Sender& from, std::uint64_t size, const Recipient& first) {
    from_ = from;
    size_ = size;
    // Where the recipient is refused for now, the host is kept at hand until another one does better: other recipients
    // may fare better here.
    std::unique_ptr<Session> aside;
    Reply later;
    std::string who, how;
    while (connect()) {
        const auto said = ask({&first, 1}, false);
        if (said == Said::yes || said == Said::never) break;
        if (!open_ || aside) {
            close();
            continue;
        }
        aside = std::move(session_);
        later = replies_.front();
        who = host_;
        how = tls_;
        open_ = false;
    }
    const bool taken = open_ && replies_.front().positive();
    if (aside) {
        // One of the two stays; close() gives up the other.
        if (taken) {
            std::swap(session_, aside);
        } else {
            replies_.assign(1, later);
            host_ = who;
            tls_ = how;
        }
        close();
        session_ = std::move(aside);
        open_ = true;
    }
    if (!open_) return refusal_;
    const auto reply = replies_.front();
    if (reply.positive()) to_.push_back(first);
    else replies_.clear();
    return reply;
}

Reply Transfer::add(const Recipient& recipient) {
    if (!open_) return refusal_;
    const auto reply = session_->rcpt(recipient);
    if (!reply.positive()) return reply;
    to_.push_back(recipient);
    replies_.push_back(reply);
    return reply;
}

// What the text needs and the present host does not offer: the refusal. The octets are looked at once for all hosts.
std::optional<Reply> Transfer::missing(const std::string& head, const Message& message) {
    if (lacks_utf8()) {
        if (!needs_utf8_) needs_utf8_ = international(head, message);
        if (*needs_utf8_) return Reply{550, "5.6.7", host_ + " does not offer SMTPUTF8"};
    }
    if (body() == from_.body) return std::nullopt;
    if (!needs_body_) needs_body_ = needed_body(from_.body, head, message);
    if (*needs_body_ <= body()) return std::nullopt;
    const bool binary = *needs_body_ == BodyType::binary_mime;
    return Reply{554, "5.6.3", host_ + " does not offer " + (binary ? "BINARYMIME" : "8BITMIME")};
}

void Transfer::suit(const std::string& head, const Message& message) {
    if (!open_ || !session_) return;
    const auto refusal = missing(head, message);
    if (!refusal) return;
    close();
    for (auto& reply : replies_)
        if (reply.positive()) reply = *refusal;
}

// What the present host makes of the text; the transaction is over then.
std::vector<Outcome> Transfer::text(const std::string& head, const Message& message) {
    const auto accepted = session_->data(head, message, settings_.chunking);
    notifies_ = session_->offer().extensions.dsn;
    std::vector<Outcome> all;
    auto next = accepted.begin();
    for (const auto& reply : replies_) all.push_back(reply.positive() ? *next++ : Outcome{reply});
    open_ = std::ranges::none_of(accepted, &Reply::positive, &Outcome::reply);
    close();
    return all;
}

std::vector<Outcome> Transfer::send(const std::string& head, const Message& message) {
    auto outcomes = text(head, message);
    const auto later = [](const Outcome& o) { return o.reply.temporary() && !o.in_doubt; };
    while (std::ranges::all_of(outcomes, later) && message.sender_present()) {
        // Nobody has it: another host may take it now. If none does, this one's word stands.
        const auto replies = replies_;
        const auto host = host_, how = tls_;
        open(from_, size_, to_);
        suit(head, message);
        if (!ready()) {
            close();
            replies_ = replies;
            host_ = host;
            tls_ = how;
            break;
        }
        outcomes = text(head, message);
    }
    return outcomes;
}

void Transfer::close() noexcept {
    try {
        if (session_ && settings_.cache) {
            if (open_) session_->reset();
            settings_.cache->put(std::move(session_));
        }
    } catch (const std::bad_alloc&) {
        // to keep it is a favour
    }
    open_ = false;
    session_.reset();
}

}  // namespace Net::SMTP
