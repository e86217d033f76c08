#include "OwnSender.hpp"

#include "Client.hpp"

namespace Net::SMTP {

bool owns(const std::string& user, const Address& sender, const std::string& domain) {
    if (sender.null()) return true;
    if (user.empty()) return false;
    if (user.find('@') != user.npos) {
        const auto own = Address::parse(user);
        return own && same_mailbox(*own, sender);
    }
    return sender.unquoted() == user && (domain.empty() || same_text(sender.domain, domain));
}

void OwnSender::operator()(Event::Mail& e) const {
    const auto& user = e.client.user();
    if (!owns(user, e.sender, domain))
        e.reply = {550, "5.7.1", "<" + e.sender.str() + "> is not owned by user " + (user.empty() ? "(none)" : user)};
}

}  // namespace Net::SMTP
