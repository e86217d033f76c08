#include "Custody.hpp"

#include <algorithm>
#include <stdexcept>

namespace Net::SMTP {

namespace {
const Reply nobody{451, "4.3.0", "Nobody took the message"};
const Reply unfinished{451, "4.3.0", "Delivery was not finished"};
using Lock = std::lock_guard<std::mutex>;
}  // namespace

void Custody::open(std::span<const Recipient> to) {
    Lock lock(mutex_);
    entries_.clear();
    for (const auto& r : to) entries_.push_back({r.id, 0, std::nullopt});
    attached_ = true;
    closed_ = false;
}

void Custody::open(std::span<const std::uint64_t> ids) {
    Lock lock(mutex_);
    entries_.clear();
    for (const auto id : ids) entries_.push_back({id, 0, std::nullopt});
    attached_ = true;
    closed_ = false;
}

bool Custody::attached() const {
    Lock lock(mutex_);
    return attached_;
}

void Custody::refuse_late() const {
    if (closed_) throw std::logic_error("a verdict after the sender was answered");
}

void Custody::begin() {
    Lock lock(mutex_);
    refuse_late();
    for (auto& e : entries_) ++e.underway;
}

void Custody::begin(std::span<const Recipient> to) {
    Lock lock(mutex_);
    refuse_late();
    for (const auto& r : to)
        for (auto& e : entries_)
            if (e.id == r.id) ++e.underway;
}

// Only 2xx takes, only 4xx and 5xx refuse; whoever says anything else has not said what became of the message.
void Custody::say(Entry& e, const Reply& said) {
    const bool verdict = said.code >= 200 && said.code < 600 && said.code / 100 != 3;
    const auto& reply = verdict ? said : unfinished;
    if (e.underway > 0) --e.underway;
    // Of several takers the last one's words are heard.
    if (!e.said || (reply.positive() && e.said->positive())) e.said = reply;
    else e.said = Reply(worse(*e.said, reply));
}

void Custody::settle(const Reply& reply) {
    Lock lock(mutex_);
    refuse_late();
    for (auto& e : entries_) say(e, reply);
}

void Custody::settle(const Recipient& recipient, const Reply& reply) {
    Lock lock(mutex_);
    refuse_late();
    for (auto& e : entries_)
        if (e.id == recipient.id) say(e, reply);
}

void Custody::settle_rest(const Reply& reply) {
    Lock lock(mutex_);
    refuse_late();
    for (auto& e : entries_)
        if (!e.said || e.underway > 0) say(e, reply);
}

void Custody::reconsider() {
    Lock lock(mutex_);
    refuse_late();
    for (auto& e : entries_) {
        e.underway = 0;
        e.said.reset();
    }
}

Reply Custody::verdict(const Entry& e) const {
    if (e.underway > 0) return e.said ? worse(*e.said, unfinished) : unfinished;
    return e.said.value_or(nobody);
}

Reply Custody::verdict() const {
    Lock lock(mutex_);
    if (entries_.empty()) return nobody;
    auto worst = verdict(entries_.front());
    for (const auto& e : entries_) worst = Reply(worse(worst, verdict(e)));
    return worst;
}

Reply Custody::verdict(const Recipient& recipient) const {
    Lock lock(mutex_);
    for (const auto& e : entries_)
        if (e.id == recipient.id) return verdict(e);
    return nobody;
}

Reply Custody::verdict(std::size_t which) const {
    Lock lock(mutex_);
    return which < entries_.size() ? verdict(entries_[which]) : nobody;
}

bool Custody::mixed() const {
    Lock lock(mutex_);
    bool taken = false, refused = false;
    for (const auto& e : entries_) (verdict(e).positive() ? taken : refused) = true;
    return taken && refused;
}

bool Custody::begun(const Recipient& recipient) const {
    Lock lock(mutex_);
    return std::ranges::any_of(
        entries_, [&](const Entry& e) { return e.id == recipient.id && (e.said.has_value() || e.underway > 0); });
}

std::size_t Custody::forgotten() const {
    Lock lock(mutex_);
    return std::size_t(std::ranges::count_if(entries_, [](const Entry& e) { return !e.said && e.underway == 0; }));
}

void Custody::close() {
    Lock lock(mutex_);
    closed_ = true;
}

bool Custody::closed() const {
    Lock lock(mutex_);
    return closed_;
}

}  // namespace Net::SMTP
