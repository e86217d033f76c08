#include "Act.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace Net::SMTP::Test {

Act::Act(const Reply& reply) {
    if (reply.code < 200 || reply.code > 599)
        throw std::invalid_argument("Act: " + std::to_string(reply.code) + " is no code of a reply; see Act::raw()");
    Step step;
    reply.append_to(step.octets);
    steps_.push_back(std::move(step));
}

Act Act::raw(std::string octets) { return Act(Step{.octets = std::move(octets)}); }

Act Act::long_reply(int code, std::size_t octets) {
    if (code < 200 || code > 599) throw std::invalid_argument("Act: no code of a reply: " + std::to_string(code));
    const auto digits = std::to_string(code);
    const auto line = digits + '-' + std::string(506, 'x') + "\r\n";
    const auto last = digits + " end\r\n";
    std::string all;
    all.reserve(octets + line.size());
    while (all.size() + last.size() < octets) all += line;
    return raw(all + last);
}

Act Act::nothing() { return {}; }
Act Act::wait(milliseconds time) { return Act(Step{.kind = Step::Kind::wait, .time = time}); }
Act Act::close() { return Act(Step{.kind = Step::Kind::close}); }
Act Act::reset() { return Act(Step{.kind = Step::Kind::reset}); }
Act Act::stall() { return Act(Step{.kind = Step::Kind::stall}); }

Act Act::swallow() { return Act(Step{.kind = Step::Kind::swallow}); }

Act Act::encrypt(std::shared_ptr<TLSAcceptor> tls) {
    if (!tls) throw std::invalid_argument("Act: TLS without anything to do it");
    return Act(Step{.kind = Step::Kind::encrypt, .tls = std::move(tls)});
}

Act Act::endless_lines(std::string line) {
    if (line.empty()) throw std::invalid_argument("Act: an endless repetition of nothing");
    return Act(Step{.kind = Step::Kind::repeat, .octets = std::move(line)});
}

Act Act::endless_line(std::string beginning) {
    return raw(std::move(beginning)).then(endless_lines(std::string(1000, 'x')));
}

Act Act::then(const Act& next) const {
    auto both = *this;
    both.steps_.insert(both.steps_.end(), next.steps_.begin(), next.steps_.end());
    return both;
}

Act Act::after(milliseconds time) const { return wait(time).then(*this); }

Act Act::paced(const Pace& pace) const {
    auto same = *this;
    for (auto& step : same.steps_) step.pace = pace;
    return same;
}

}  // namespace Net::SMTP::Test
